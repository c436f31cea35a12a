"""OpenAI's own client against real servers."""

from __future__ import annotations

import asyncio
import base64

import httpx2 as httpx
import numpy as np
import openai
import pytest

from harness.digits import base64_png, digits
from harness.servers import Server
from tests.e2e.conftest import KEY

URIS = [f"data:image/png;base64,{base64_png(digit)}" for digit in digits()[:4]]


def connect(server: Server, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def latents(server: Server) -> list[list[float]]:
    """What `/encode` says of the same pictures."""
    body = {"images": URIS}
    mu: list[list[float]] = httpx.post(f"{server.url}/encode", json=body, headers={"x-api-key": KEY}).json()["mu"]
    return mu


def test_its_client_gets_the_right_embeddings(locked_server: Server) -> None:
    """By itself it asks for base64, and decodes that."""
    expected = np.array(latents(locked_server), np.float32)
    with connect(locked_server) as client:
        by_itself = client.embeddings.create(model="mnist-mlp", input=URIS)
        as_numbers = client.embeddings.create(model="mnist-mlp", input=URIS, encoding_format="float")
        as_text = client.embeddings.create(model="mnist-mlp", input=URIS, encoding_format="base64")
    for answer in (by_itself, as_numbers):
        np.testing.assert_array_equal(np.array([item.embedding for item in answer.data], np.float32), expected)
        assert (answer.model, answer.usage.total_tokens) == ("mnist-mlp@2", 4)
    texts = [base64.b64decode(str(item.embedding)) for item in as_text.data]
    np.testing.assert_array_equal([np.frombuffer(text, "<f4") for text in texts], expected)


def test_its_asynchronous_client_too(locked_server: Server) -> None:
    async def ask() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{locked_server.url}/v1", api_key=KEY) as client:
            answers = await asyncio.gather(*(client.embeddings.create(model="mnist-mlp@2", input=uri) for uri in URIS))
            return [answer.data[0].embedding for answer in answers]

    np.testing.assert_allclose(asyncio.run(ask()), latents(locked_server), rtol=1e-4, atol=1e-5)


def test_its_client_lists_the_models(locked_server: Server) -> None:
    with connect(locked_server) as client:
        names = [model.id for model in client.models.list()]
        assert "mnist-mlp@2" in names
        assert client.models.retrieve("mnist-mlp").id == "mnist-mlp@2"


def test_its_client_raises_its_own_errors(locked_server: Server) -> None:
    with connect(locked_server) as client, connect(locked_server, "wrong") as stranger:
        with pytest.raises(openai.AuthenticationError, match="not one of this service's"):
            stranger.models.list()
        with pytest.raises(openai.NotFoundError) as unknown:
            client.embeddings.create(model="text-embedding-3-small", input=URIS)
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError, match="input\\[0\\]: Not base64") as bad:
            client.embeddings.create(model="mnist-mlp", input="a text")
        assert (bad.value.type, bad.value.param) == ("invalid_request_error", "input")
        assert bad.value.request_id
        with pytest.raises(openai.BadRequestError, match="an embedding of this model has 20 numbers"):
            client.embeddings.create(model="mnist-mlp", input=URIS, dimensions=8)
