"""Triton's own client, `tritonclient[http]`, works against a real server as it is, with one worker and with two."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from harness.digits import digits, encoded
from harness.paths import MODELS
from harness.servers import Server
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from tests.e2e.conftest import KEY

ENCODER = "mnist-mlp.encoder"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with connected(server, concurrency=8) as client:
        yield client


def connected(server: Server, **options: Any) -> contextlib.closing[Any]:
    """A client with connections of its own."""
    return contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{server.port}", **options))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(read_bundle(MODELS / "mnist-mlp" / "2"), provider="cpu", threads=1)


def image_input(images: npt.NDArray[np.uint8], *, binary: bool = True, module: Any = triton) -> Any:
    found = module.InferInput("image", list(images.shape), "UINT8")
    found.set_data_from_numpy(images, binary_data=binary)
    return found


def outputs(*names: str, binary: bool) -> list[Any]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


class TestQuestions:
    """All but inference."""

    def test_the_server_and_its_models_are_live_and_ready(self, client: Any) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(ENCODER)
        assert client.is_model_ready(ENCODER, "1")
        assert not client.is_model_ready(ENCODER, "9")
        assert not client.is_model_ready('a "b" %')

    def test_metadata_and_configuration(self, client: Any) -> None:
        assert client.get_server_metadata()["name"] == "vae-service"
        metadata = client.get_model_metadata(ENCODER, "2")
        assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}]
        assert client.get_model_config(ENCODER)["max_batch_size"] == 1024

    def test_statistics(self, client: Any) -> None:
        client.infer(ENCODER, [image_input(digits()[:1])])
        (found,) = client.get_inference_statistics(ENCODER, "2")["model_stats"]
        assert (found["name"], found["version"]) == (ENCODER, "2")
        assert len(client.get_inference_statistics()["model_stats"]) > 5

    def test_statistics_are_the_same_whichever_worker_answers(self, server: Server, client: Any) -> None:
        (before,) = client.get_inference_statistics(ENCODER, "1")["model_stats"]
        for count in range(1, 9):
            with connected(server) as another:
                another.infer(ENCODER, [image_input(digits()[:count])], model_version="1")
        found = []
        for _ in range(8):
            with connected(server) as another:
                found += another.get_inference_statistics(ENCODER, "1")["model_stats"]
        assert found == [found[0]] * 8
        assert found[0]["execution_count"] - before["execution_count"] == 8
        assert found[0]["inference_count"] - before["inference_count"] == sum(range(1, 9))
        assert found[0]["last_inference"] >= before["last_inference"]

    def test_the_repository_is_listed_and_does_not_change(self, client: Any) -> None:
        index = client.get_model_repository_index()
        assert {"name": ENCODER, "version": "2", "state": "READY", "reason": ""} in index
        for change in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="The folder of models rules") as refused:
                change(ENCODER)
            assert refused.value.status() == "403"

    def test_what_is_not_offered_is_refused_in_a_form_that_it_reads(self, client: Any) -> None:
        for ask in (client.get_trace_settings, client.get_log_settings, client.get_system_shared_memory_status):
            with pytest.raises(InferenceServerException, match="Not Found") as refused:
                ask()
            assert refused.value.status() == "404"


class TestInference:
    """What comes back is what onnxruntime gives for the same images."""

    @pytest.mark.parametrize("count", [1, 7, 64])
    @pytest.mark.parametrize("binary_in", [True, False])
    @pytest.mark.parametrize("binary_out", [True, False])
    def test_in_every_form(self, client: Any, engine: Engine, count: int, binary_in: bool, binary_out: bool) -> None:
        images = digits()[:count]
        asked = outputs("mu", "logvar", binary=binary_out)
        result = client.infer(ENCODER, [image_input(images, binary=binary_in)], outputs=asked, request_id="17")
        mu, logvar = engine.encode(images)
        np.testing.assert_allclose(result.as_numpy("mu"), mu, rtol=0, atol=1e-5)
        np.testing.assert_allclose(result.as_numpy("logvar"), logvar, rtol=0, atol=1e-5)
        assert result.get_response()["id"] == "17"
        assert result.get_response()["model_version"] == "2"

    def test_without_outputs_all_come_as_bytes(self, client: Any) -> None:
        result = client.infer(ENCODER, [image_input(digits()[:1])])
        assert [output["name"] for output in result.get_response()["outputs"]] == ["mu", "logvar"]
        assert all("binary_data_size" in output["parameters"] for output in result.get_response()["outputs"])

    def test_outputs_of_both_forms_in_one_answer(self, client: Any, engine: Engine) -> None:
        images = digits()[:3]
        asked = [*outputs("logvar", binary=True), *outputs("mu", binary=False)]
        result = client.infer(ENCODER, [image_input(images)], outputs=asked)
        mu, logvar = engine.encode(images)
        np.testing.assert_allclose(result.as_numpy("mu"), mu, rtol=0, atol=1e-5)
        np.testing.assert_allclose(result.as_numpy("logvar"), logvar, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("there", [None, "gzip", "deflate"])
    @pytest.mark.parametrize("back", [None, "gzip", "deflate"])
    def test_compressed_in_both_directions(self, client: Any, there: str | None, back: str | None) -> None:
        z = np.zeros((64, 20), np.float32)
        latents = triton.InferInput("z", [64, 20], "FP32")
        latents.set_data_from_numpy(z)
        compressed = {"request_compression_algorithm": there, "response_compression_algorithm": back}
        result = client.infer("mnist-mlp.decoder", [latents], **compressed)
        np.testing.assert_array_equal(
            result.as_numpy("image"), client.infer("mnist-mlp.decoder", [latents]).as_numpy("image")
        )

    def test_pictures_as_files(self, client: Any, engine: Engine) -> None:
        pictures = np.array([encoded(image) for image in digits()[:2]], np.object_)
        files = triton.InferInput("pictures", [2], "BYTES")
        files.set_data_from_numpy(pictures)
        result = client.infer("mnist-mlp.encode", [files])
        np.testing.assert_allclose(result.as_numpy("mu"), engine.encode(digits()[:2])[0], rtol=0, atol=1e-5)
        reconstructed = client.infer("mnist-mlp.reconstruct", [files], parameters={"preprocess": "none"})
        assert reconstructed.as_numpy("image").shape == (2, 28, 28)
        assert (reconstructed.as_numpy("mse") < 0.1).all()
        drawn = client.infer("mnist-mlp.encode", [files], parameters={"sample": True, "seed": 3})
        assert drawn.as_numpy("z").shape == (2, 20)
        assert drawn.get_response()["parameters"] == {"seed": 3}
        assert (client.infer("mnist-mlp.score", [files]).as_numpy("typicality") > 0.01).all()

    def test_samples_with_parameters(self, client: Any) -> None:
        n = triton.InferInput("n", [1], "INT64")
        n.set_data_from_numpy(np.array([5]))
        first, again, other = (
            client.infer("mnist-mlp.sample", [n], parameters={"seed": seed, "label": 7, "temperature": 0.8})
            for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(first.as_numpy("image"), again.as_numpy("image"))
        assert (first.as_numpy("z") != other.as_numpy("z")).any()
        used = {"seed": 1, "prior": "aggregate", "temperature": 0.8, "sharpness": 1}
        assert first.get_response()["parameters"] == used

    def test_eight_at_once(self, client: Any, engine: Engine) -> None:
        waiting = [client.async_infer(ENCODER, [image_input(digits()[n : n + 1])]) for n in range(32)]
        mu, _ = engine.encode(digits()[:32])
        for index, each in enumerate(waiting):
            np.testing.assert_allclose(each.get_result().as_numpy("mu")[0], mu[index], rtol=0, atol=1e-5)

    def test_bodies_made_and_read_by_hand(self, server: Server, engine: Engine) -> None:
        client = triton.InferenceServerClient
        body, length = client.generate_request_body([image_input(digits()[:1])])
        assert length is not None
        with connected(server) as raw:
            answer = raw._post(
                f"v2/models/{ENCODER}/infer", body, {"Inference-Header-Content-Length": str(length)}, None
            )
        said = int(answer.get("Inference-Header-Content-Length"))
        result = client.parse_response_body(answer.read(), header_length=said)
        np.testing.assert_allclose(result.as_numpy("mu"), engine.encode(digits()[:1])[0], rtol=0, atol=1e-5)


class Prefixed(BaseHTTPRequestHandler):
    """A proxy that has the service below `/vae`."""

    server_port: int
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.pass_on(None)

    def do_POST(self) -> None:
        self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def pass_on(self, body: bytes | None) -> None:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.server_port)) as behind:
            behind.request(self.command, self.path.removeprefix("/vae"), body, dict(self.headers))
            answer = behind.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.read())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        """Nothing: it would go to standard error."""


def test_a_service_below_a_path_of_a_proxy(server: Server) -> None:
    handler = type("Handler", (Prefixed,), {"server_port": server.port})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        url = f"127.0.0.1:{proxy.server_address[1]}/vae"
        with contextlib.closing(triton.InferenceServerClient(url)) as client:
            assert client.is_server_ready()
            assert client.get_model_metadata(ENCODER)["name"] == ENCODER
            assert client.infer(ENCODER, [image_input(digits()[:3])]).as_numpy("mu").shape == (3, 20)
        proxy.shutdown()


class TestRefusals:
    """Errors reach the program as InferenceServerException, with their status; the server goes on."""

    @pytest.mark.parametrize(
        ("model", "version", "status"),
        [("nobody.encoder", "", "404"), (ENCODER, "9", "404"), ('a "b" %', "", "404"), ("mnist-mlp", "", "404")],
    )
    def test_models_that_are_not_served(self, client: Any, model: str, version: str, status: str) -> None:
        with pytest.raises(InferenceServerException, match="There is no") as refused:
            client.infer(model, [image_input(digits()[:1])], model_version=version)
        assert refused.value.status() == status
        assert client.is_server_live()

    def test_tensors_that_do_not_fit(self, client: Any) -> None:
        wrong_shape = image_input(np.zeros((1, 27, 28), np.uint8))
        wrong_type = triton.InferInput("image", [1, 28, 28], "FP32")
        wrong_type.set_data_from_numpy(np.zeros((1, 28, 28), np.float32))
        wrong_name = triton.InferInput("picture", [1, 28, 28], "UINT8")
        wrong_name.set_data_from_numpy(digits()[:1])
        for wrong in (wrong_shape, wrong_type, wrong_name):
            with pytest.raises(InferenceServerException, match="image") as refused:
                client.infer(ENCODER, [wrong])
            assert refused.value.status() == "400"
        good = image_input(digits()[:1])
        for asked in (outputs("z", binary=True), outputs("mu", "mu", binary=True)):
            with pytest.raises(InferenceServerException, match="output") as refused:
                client.infer(ENCODER, [good], outputs=asked)
            assert refused.value.status() == "400"
        assert client.infer(ENCODER, [good]).as_numpy("mu").shape == (1, 20)

    def test_a_timeout_in_microseconds(self, client: Any) -> None:
        with pytest.raises(InferenceServerException, match="deadline") as refused:
            client.infer(ENCODER, [image_input(digits()[:1])], timeout=1)
        assert refused.value.status() == "504"
        client.infer(ENCODER, [image_input(digits()[:1])], timeout=10_000_000)

    def test_too_many_images(self, client: Any) -> None:
        with pytest.raises(InferenceServerException, match="at most 1024") as refused:
            client.infer(ENCODER, [image_input(np.zeros((1025, 28, 28), np.uint8))])
        assert refused.value.status() == "413"

    def test_without_a_key(self, locked_server: Server) -> None:
        with connected(locked_server) as client:
            assert client.is_server_ready()
            with pytest.raises(InferenceServerException, match="An API key is needed") as refused:
                client.infer(ENCODER, [image_input(digits()[:1])])
            assert refused.value.status() == "401"
            headers = {"Authorization": f"Bearer {KEY}"}
            assert client.infer(ENCODER, [image_input(digits()[:1])], headers=headers).as_numpy("mu").shape == (1, 20)


@contextlib.asynccontextmanager
async def asyncio_client(server: Server) -> AsyncIterator[Any]:
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def test_the_client_for_asyncio(server: Server, engine: Engine) -> None:
    async def run() -> None:
        async with asyncio_client(server) as client:
            assert await client.is_server_live()
            assert await client.is_model_ready(ENCODER)
            assert (await client.get_model_metadata(ENCODER))["versions"] == ["1", "2"]
            asked = [
                client.infer(ENCODER, [image_input(digits()[n : n + 1], module=triton_aio)], request_id=str(n))
                for n in range(32)
            ]
            mu, _ = engine.encode(digits()[:32])
            for index, result in enumerate(await asyncio.gather(*asked)):
                assert result.get_response()["id"] == str(index)
                np.testing.assert_allclose(result.as_numpy("mu")[0], mu[index], rtol=0, atol=1e-5)
            for coding in ("gzip", "deflate"):
                result = await client.infer(
                    ENCODER,
                    [image_input(digits()[:64], module=triton_aio)],
                    request_compression_algorithm=coding,
                    response_compression_algorithm=coding,
                    outputs=[triton_aio.InferRequestedOutput("mu", binary_data=False)],
                )
                assert result.as_numpy("mu").shape == (64, 20)
            with pytest.raises(InferenceServerException, match="There is no model"):
                await client.infer("nobody.encoder", [image_input(digits()[:1], module=triton_aio)])

    asyncio.run(run())
