"""The client against the real service: what comes back is what the service says, however it was asked for."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from harness.digits import base64_png, decoded, digits
from harness.paths import DIGIT
from harness.servers import Server
from service.contract import tone_curve
from vae_client import AsyncClient, BadAnswer, Client, InvalidInput, LimitExceeded, NothingUsable, Unknown


def answered(server: Server, path: str, body: dict[str, Any]) -> Any:
    """What the service says to JSON."""
    return httpx2.post(f"{server.url}{path}", json=body).raise_for_status().json()


def floats(values: Any) -> Any:
    return np.array(values, np.float32)


def test_encode_gives_the_posterior_of_each_picture(server: Server, client: Client) -> None:
    expected = answered(server, "/encode", {"images": list(map(base64_png, digits()[:5])), "sample": True, "seed": 7})
    result = client.encode(digits()[:5], sample=True, seed=7)
    for name in ("mu", "logvar", "z"):
        np.testing.assert_array_equal(getattr(result, name), floats(expected[name]))
        assert getattr(result, name).dtype == np.float32
    assert (result.model, result.seed) == (expected["model"], 7)


def test_a_picture_can_come_in_any_form(client: Client) -> None:
    pixels = decoded(DIGIT.read_bytes())
    one: list[Any] = [DIGIT, str(DIGIT), DIGIT.read_bytes(), Image.open(DIGIT), pixels, pixels[None]]
    several: list[Any] = [[DIGIT] * 2, [pixels] * 2, np.stack([pixels] * 2), (form for form in (DIGIT, pixels))]
    expected = client.encode(DIGIT).mu
    for form in one:
        np.testing.assert_array_equal(client.encode(form).mu, expected)
    for form in several:
        np.testing.assert_array_equal(client.encode(form).mu, np.repeat(expected, 2, 0))


def test_pictures_in_colour_are_read(client: Client) -> None:
    colour = np.repeat(digits()[0][..., None], 3, 2)
    expected = client.encode(digits()[0]).mu
    for form in (colour, colour[None], Image.fromarray(colour), Image.fromarray(colour).convert("CMYK")):
        np.testing.assert_allclose(client.encode(form).mu, expected, atol=1e-5)


def test_a_preview_shows_what_the_model_saw_and_where(client: Client) -> None:
    paper = np.full((200, 300), 255, np.uint8)
    paper[60:144, 90:174] = 255 - np.kron(digits()[3], np.ones((3, 3), np.uint8))
    result = client.encode([paper, digits()[3]], preprocess="digit", preview=True)
    assert result.preview is not None
    assert result.preview.shape == (2, 28, 28)
    assert result.found is not None
    assert result.found[0] is not None
    left, top, right, bottom = result.found[0].box
    assert 90 <= left < right <= 174
    assert 60 <= top < bottom <= 144
    assert result.found[0].confidence > 0.9
    plain = client.encode([paper, digits()[3]], preprocess="digit")
    np.testing.assert_array_equal(plain.mu, result.mu)
    assert plain.preview is None


def test_reconstruct_gives_images(server: Server, client: Client) -> None:
    expected = answered(server, "/reconstruct", {"images": list(map(base64_png, digits()[:3]))})
    result = client.reconstruct(digits()[:3])
    np.testing.assert_array_equal(result.images, [decoded(text) for text in expected["images"]])
    np.testing.assert_array_equal(result.mse, floats(expected["mse"]))
    np.testing.assert_array_equal(result.mu, client.encode(digits()[:3]).mu)


def test_score_says_how_typical_pictures_are(server: Server, client: Client) -> None:
    expected = answered(server, "/score", {"images": list(map(base64_png, digits()[:3])), "k": 5, "seed": 2})
    for preview in (False, True):
        result = client.score(digits()[:3], k=5, seed=2, preview=preview)
        for name in ("distortion", "rate", "elbo", "typicality", "log_likelihood"):
            np.testing.assert_array_equal(getattr(result, name), floats(expected[name]))
        assert (result.k, result.seed) == (5, 2)
    assert client.score(digits()[0]).log_likelihood is None


def test_sample_draws_images_that_can_be_drawn_again(server: Server, client: Client) -> None:
    expected = answered(server, "/sample", {"n": 6, "seed": 11, "label": 7})
    result = client.sample(6, seed=11, label=7)
    np.testing.assert_array_equal(result.images, [decoded(text) for text in expected["images"]])
    np.testing.assert_array_equal(result.z, floats(expected["z"]))
    assert (result.seed, result.prior) == (11, "aggregate")
    assert (result.temperature, result.sharpness) == (expected["temperature"], expected["sharpness"])
    new = client.sample(4)
    np.testing.assert_array_equal(client.sample(4, seed=new.seed).images, new.images)


def test_decode_takes_one_latent_or_several(client: Client) -> None:
    z = client.encode(digits()[:4]).mu
    images = client.decode(z).images
    np.testing.assert_array_equal(images, client.reconstruct(digits()[:4]).images)
    np.testing.assert_array_equal(client.decode(z[0].tolist()).images, images[:1])


def test_pictures_of_every_verb_can_be_sharper(client: Client) -> None:
    z = client.encode(digits()[:2]).mu
    for draw in (
        partial(client.reconstruct, digits()[:2]),
        partial(client.sample, 2, seed=1),
        partial(client.decode, z),
        partial(client.interpolate, digits()[:2]),
        partial(client.interpolate, z=z),
        partial(client.traverse, z=z[:1]),
    ):
        curve = np.frombuffer(tone_curve(1.5), np.uint8)
        np.testing.assert_array_equal(draw(sharpness=1.5).images, curve[draw(sharpness=1).images])


def test_walks_come_from_pictures_or_latents(server: Server, client: Client) -> None:
    pictures = list(map(base64_png, digits()[:3]))
    expected = answered(server, "/interpolate", {"images": pictures, "steps": 4, "path": "spherical"})
    walk = client.interpolate(digits()[:3], steps=4, path="spherical")
    np.testing.assert_array_equal(walk.images, [decoded(text) for text in expected["images"]])
    assert walk.mu is not None
    by_latents = client.interpolate(z=walk.mu, steps=4, path="spherical")
    np.testing.assert_array_equal(by_latents.z, walk.z)
    assert by_latents.mu is None

    bent = client.traverse(DIGIT, dims=[3, 4], range=(-1, 1), steps=5)
    assert bent.images.shape == (2, 5, 28, 28)
    np.testing.assert_array_equal(bent.values, floats([-1, -0.5, 0, 0.5, 1]))
    np.testing.assert_array_equal(bent.z[1, :, 4], bent.values)
    assert client.traverse(z=walk.mu[0]).images.shape == (5, 7, 28, 28)


def test_models_and_health_say_what_is_served(client: Client) -> None:
    served = client.models()
    models = {model.id: model for model in served.models}
    assert served.default == "mnist-mlp@2"
    assert (models["mnist-mlp@2"].latent_dim, models["mnist-mlp@2"].image_shape) == (20, (28, 28))
    assert models["mnist-mlp@2"].labels == tuple(range(10))
    assert models["mnist-mlp@2"].document["identity"]
    assert client.health().ready


class TestBatches:
    def test_many_pictures_are_divided_and_come_back_in_order(self, server: Server, client: Client) -> None:
        whole = client.encode(digits())
        z = client.interpolate(digits()[:9], steps=5)
        bent = client.traverse(digits()[0], dims=range(6), steps=4)
        with Client(server.url, batch_size=7, in_flight=3) as divided:
            np.testing.assert_array_equal(divided.encode(digits()).mu, whole.mu)
            np.testing.assert_array_equal(divided.encode(digits(), preview=True).preview, digits())
            np.testing.assert_array_equal(divided.decode(whole.mu).images, client.decode(whole.mu).images)
            pieces = divided.interpolate(digits()[:9], steps=5)
            assert pieces.mu is not None
            assert z.mu is not None
            for name in ("images", "z", "mu"):
                np.testing.assert_array_equal(getattr(pieces, name), getattr(z, name))
            again = divided.traverse(digits()[0], dims=range(6), steps=4)
            np.testing.assert_array_equal(again.images, bent.images)
            assert again.dims == list(range(6))

    def test_no_two_batches_have_the_same_noise(self, server: Server) -> None:
        with Client(server.url, batch_size=4) as client:
            first, again = client.sample(12, seed=5), client.sample(12, seed=5)
            drawn = client.encode(np.repeat(digits()[:1], 12, 0), sample=True, seed=5)
        np.testing.assert_array_equal(first.z, again.z)
        assert drawn.z is not None
        for z in (first.z, drawn.z):
            assert len(np.unique(z, axis=0)) == 12
        assert (first.seed, drawn.seed) == (5, 5)

    def test_what_the_service_finds_too_many_is_halved(self, client: Client, server: Server) -> None:
        many = np.resize(digits(), (1100, 28, 28))  # the service takes 1,024
        with Client(server.url, batch_size=5000) as greedy:
            assert greedy.sample(1100, seed=1).images.shape == (1100, 28, 28)
            np.testing.assert_array_equal(greedy.encode(many).mu, client.encode(many).mu)
            with pytest.raises(LimitExceeded, match="draws"):
                greedy.score(digits()[0], k=5000)

    def test_after_an_error_nothing_of_a_call_is_still_under_way(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hold, began, raised, seen = Client._hold, Event(), Event(), list[bool]()

        def held(self: Client, conversation: Any) -> Any:
            name = threading.current_thread().name
            if name.endswith("_0"):
                began.wait(60)
                raise BadAnswer("the first batch")
            if name.endswith("_1"):
                began.set()
                seen.append(raised.wait(0.2))  # whether the call has ended without this batch
            return hold(self, conversation)

        monkeypatch.setattr(Client, "_hold", held)
        with Client(server.url, batch_size=8, in_flight=2) as client:
            with pytest.raises(BadAnswer, match="the first batch"):
                client.encode(digits()[:16])
            raised.set()
        assert seen == [False]

    def test_progress_counts_every_picture(self, server: Server) -> None:
        done: list[int] = []
        with Client(server.url, batch_size=16) as client:
            client.encode([*digits()[:50], b"no picture"], skip_bad=True, progress=done.append)
        assert sum(done) == 51

    def test_asyncio_gives_the_same(self, server: Server, client: Client) -> None:
        async def ask() -> Any:
            async with AsyncClient(server.url, batch_size=16) as asynchronous:
                return await asyncio.gather(
                    asynchronous.encode(digits()),
                    asynchronous.sample(20, seed=3),
                    asynchronous.models(),
                    asynchronous.health(),
                )

        posterior, drawn, served, health = asyncio.run(ask())
        np.testing.assert_array_equal(posterior.mu, client.encode(digits()).mu)
        with Client(server.url, batch_size=16) as same:
            np.testing.assert_array_equal(drawn.z, same.sample(20, seed=3).z)
        assert (served.default, health.ready) == ("mnist-mlp@2", True)


class TestErrors:
    def test_faults_point_at_the_pictures_of_the_call(self, server: Server) -> None:
        pictures: list[Any] = [*digits()[:10], b"no picture", *digits()[:10]]
        with (
            Client(server.url, batch_size=4) as client,
            pytest.raises(InvalidInput, match="/images/10: Not a pic") as bad,
        ):
            client.encode(pictures)
        problem = bad.value.problem
        assert (problem.status, problem.title, [fault.row for fault in problem.errors]) == (
            422, "Unprocessable Entity", [10],
        )  # fmt: skip
        assert problem.request_id

    def test_bad_pictures_can_be_skipped(self, server: Server, tmp_path: Path) -> None:
        pictures: list[Any] = [b"", digits()[0], tmp_path / "missing.png", b"no", digits()[1]]
        with Client(server.url, batch_size=3) as client:
            result = client.reconstruct(pictures, skip_bad=True)
            np.testing.assert_array_equal(result.mu, client.encode(digits()[:2]).mu)
            assert list(result.skipped) == [0, 2, 3]
            assert result.skipped[2] == "No such file or directory"
            with pytest.raises(NothingUsable) as nothing:
                client.encode([b"no"] * 300, skip_bad=True)
            assert len(nothing.value.skipped) == 300
            with pytest.raises(FileNotFoundError):
                client.encode(pictures[2])

    def test_the_service_says_what_it_does_not_have(self, client: Client) -> None:
        with pytest.raises(Unknown, match="no model 'nobody'"):
            client.encode(DIGIT, model="nobody")
        with pytest.raises(Unknown, match="label 17"):
            client.sample(label=17)
        with pytest.raises(InvalidInput, match="/dims/1: Given more than once"):
            client.traverse(DIGIT, dims=[1, 1])

    def test_what_cannot_be_sent_is_said_at_once(self, client: Client) -> None:
        wrongs: list[Any] = [digits()[0] / 255, digits()[0][0], [], [digits()[:2], digits()[0]], [3]]
        for wrong in wrongs:
            with pytest.raises(ValueError, match=r"[Pp]ixels|[Pp]icture"):
                client.encode(wrong)
        for call in (lambda: client.interpolate(DIGIT), lambda: client.interpolate(), lambda: client.sample(0)):
            with pytest.raises(ValueError, match=r"needed|least one"):
                call()
        with pytest.raises(ValueError, match="finite"):
            client.decode([[np.nan] * 20])
        with pytest.raises(ValueError, match="no URL"):
            Client("localhost:8000")

    def test_another_server_is_not_taken_for_the_service(self, server: Server) -> None:
        with Client(f"{server.url}/docs") as client, pytest.raises((Unknown, BadAnswer)):
            client.models()
