from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from harness.digits import digits
from service.api.open_inference import compression
from service.errors import LimitExceeded, Overloaded
from service.inference.admission import Admission, Reservation
from tests.service.api.open_inference.asking import LENGTH, error, images, infer, outputs

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
NOISE = np.random.Generator(np.random.PCG64(0)).bytes(700_000)


def unpack(data: bytes, coding: str, most: int = 10**6) -> bytes:
    return compression.unpack(data, coding, most, Reservation())


@pytest.mark.parametrize("coding", PACK)
class TestBodies:
    """Bodies that come compressed."""

    @pytest.mark.parametrize("data", [b"", b"x", bytes(1_000_000), NOISE])
    def test_any_bytes_come_back(self, coding: str, data: bytes) -> None:
        assert unpack(PACK[coding](data), coding) == data
        assert unpack(compression.pack(data, coding), coding) == data
        assert compression.pack(data, coding) == compression.pack(data, coding)

    def test_the_length_of_the_json_is_that_before_compression(self, client: TestClient, coding: str) -> None:
        array = digits()[:7]
        text = json.dumps({"inputs": [images(array, binary=True)]}).encode()
        answer = client.post(
            "/v2/models/mnist-mlp.encoder/infer",
            content=PACK[coding](text + array.tobytes()),
            headers={LENGTH: str(len(text)), "Content-Encoding": coding.upper()},
        )
        plain = infer(client, "mnist-mlp.encoder", images(array))
        np.testing.assert_array_equal(outputs(answer)["mu"], outputs(plain)["mu"])

    @pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data])
    def test_a_damaged_body_is_400(self, client: TestClient, coding: str, damage: Callable[[bytes], bytes]) -> None:
        for data in (b"{}", NOISE):
            answer = client.post(
                "/v2/models/mnist-mlp.encoder/infer",
                content=damage(PACK[coding](data)),
                headers={"Content-Encoding": coding},
            )
            assert answer.status_code == 400
            assert error(answer).endswith((f" {coding}.", f"its {coding} does."))

    def test_what_would_become_too_long_is_refused_before_it_is(self, client: TestClient, coding: str) -> None:
        bomb = PACK[coding](bytes(200_000_000))
        assert len(bomb) < 300_000
        answer = client.post("/v2/models/mnist-mlp.encoder/infer", content=bomb, headers={"Content-Encoding": coding})
        assert (answer.status_code, error(answer)) == (413, "The body is larger than 16777216 bytes.")

    def test_memory_is_reserved_for_what_comes_out(self, coding: str) -> None:
        admission = Admission(most_images=1, most_bytes=3_000_000)
        reservation = Reservation(admission)
        assert compression.unpack(PACK[coding](bytes(10**6)), coding, 10**7, reservation) == bytes(10**6)
        assert admission.bytes == 10**6
        with pytest.raises(LimitExceeded, match="VAE_MEMORY_BYTES"):
            compression.unpack(PACK[coding](bytes(10**7)), coding, 10**7, reservation)
        reservation.release()
        assert admission.bytes == 0
        admission.bytes = 2_500_000
        with pytest.raises(Overloaded):
            compression.unpack(PACK[coding](bytes(10**6)), coding, 10**7, Reservation(admission))


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, deflate", "x"])
def test_another_coding_is_415(client: TestClient, coding: str) -> None:
    answer = client.post("/v2/models/mnist-mlp.encoder/infer", content=b"{}", headers={"Content-Encoding": coding})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, deflate")
    error(answer)


def test_identity_is_none(client: TestClient) -> None:
    assert compression.body_coding(b" identity ") is None
    assert compression.body_coding(None) is None
    with pytest.raises(HTTPException):
        compression.body_coding(b"identity, gzip")


class TestAnswers:
    """Answers that may be compressed."""

    @pytest.mark.parametrize(
        ("accept", "coding"),
        [
            (b"gzip", "gzip"),
            (b"deflate", "deflate"),
            (b"deflate, GZIP;q=0.5, br", "gzip"),
            (b"gzip;q=0, deflate", "deflate"),
            (b"gzip; q=0.000", None),
            (b"br, zstd", None),
            (b"identity", None),
            (b"", None),
            (b"gzip," * 5000, None),
        ],
    )
    def test_the_coding_is_one_that_is_accepted(self, accept: bytes, coding: str | None) -> None:
        assert compression.answer_coding(accept) == coding

    @pytest.mark.parametrize("coding", PACK)
    @pytest.mark.parametrize("binary", [False, True])
    def test_a_long_answer_is_compressed_and_says_the_same(self, client: TestClient, coding: str, binary: bool) -> None:
        n = {"name": "n", "datatype": "INT64", "shape": [1], "data": [64]}
        parameters = {"binary_data_output": binary, "seed": 1}
        packed, plain = (
            infer(client, "mnist-mlp.sample", n, headers={"Accept-Encoding": accepted}, parameters=parameters)
            for accepted in (coding, "identity")
        )
        assert packed.headers["content-encoding"] == coding
        assert "content-encoding" not in plain.headers
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert packed.content == plain.content

    def test_one_that_would_become_longer_is_not(self, client: TestClient) -> None:
        asked = {"binary_data_output": True}  # the last bits of floats are noise
        answer = infer(
            client, "mnist-mlp.encoder", images(digits()[:64]), headers={"Accept-Encoding": "gzip"}, parameters=asked
        )
        assert "content-encoding" not in answer.headers
        assert outputs(answer)["mu"].shape == (64, 20)

    def test_neither_is_a_short_answer(self, client: TestClient) -> None:
        answer = infer(client, "mnist-mlp.encoder", images(digits()[:1]), headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in answer.headers
