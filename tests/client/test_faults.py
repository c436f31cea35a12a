"""What the client does when connections and servers fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.digits import digits
from harness.servers import running
from tests.client import faulty as faults
from tests.client.faulty import FaultyServer
from vae_client import (
    AsyncClient,
    BadAnswer,
    Client,
    DeadlineExceeded,
    Overloaded,
    Unauthorized,
    Unreachable,
    conversation,
)

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "FIRST_PAUSE", 0.0)


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, faulty: FaultyServer) -> Ask:
    """Call a verb of one client or the other, with options of the client."""

    def now(verb: str, *arguments: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
        with Client(faulty.url, **(client or {})) as made:
            return getattr(made, verb)(*arguments, **options)

    def later(verb: str, *arguments: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
        async def hold() -> Any:
            async with AsyncClient(faulty.url, **(client or {})) as made:
                return await getattr(made, verb)(*arguments, **options)

        return asyncio.run(hold())

    return now if request.param == "Client" else later


@pytest.mark.parametrize("fault", [faults.DROP, faults.CUT, faults.LOST, faults.DRAINING])
def test_a_request_is_sent_again_when_that_can_help(ask: Ask, faulty: FaultyServer, client: Client, fault: str) -> None:
    faulty.faults = [fault] * 3
    np.testing.assert_array_equal(ask("encode", digits()[:3]).mu, client.encode(digits()[:3]).mu)
    assert len(faulty.bodies) == 4
    assert len(set(faulty.bodies)) == 1


def test_a_draw_without_a_seed_is_the_same_when_it_is_sent_again(
    ask: Ask, faulty: FaultyServer, client: Client
) -> None:
    faulty.faults = [faults.CUT]
    result = ask("sample", 3)
    assert faulty.bodies[0] == faulty.bodies[1]
    np.testing.assert_array_equal(result.images, client.sample(3, seed=result.seed).images)


def test_the_tries_have_an_end(ask: Ask, faulty: FaultyServer) -> None:
    faulty.faults = [faults.DROP] * 3
    with pytest.raises(Unreachable, match=f"{faulty.url}, tried 3 times"):
        ask("encode", digits()[0], client={"retries": 2})
    faulty.faults = [faults.DRAINING] * 3
    with pytest.raises(Overloaded, match="503 Service Unavailable: Later") as overloaded:
        ask("encode", digits()[0], client={"retries": 2})
    assert overloaded.value.problem.request_id == "r"
    assert len(faulty.bodies) == 6


def test_a_server_that_does_not_say_when_is_not_asked_again(ask: Ask, faulty: FaultyServer) -> None:
    faulty.faults = [faults.CLOSED]
    with pytest.raises(Overloaded):
        ask("encode", digits()[0])
    assert len(faulty.bodies) == 1


def test_what_is_no_answer_of_the_service_is_said_to_be_none(ask: Ask, faulty: FaultyServer) -> None:
    for verb, argument in (("encode", digits()[0]), ("sample", 3), ("decode", [0.0] * 20)):
        faulty.faults = [faults.NOT_OURS]
        with pytest.raises(BadAnswer, match="not one of vae-service: 200, text/html"):
            ask(verb, argument)


def test_a_call_ends_at_its_deadline(ask: Ask, faulty: FaultyServer) -> None:
    faulty.faults = [faults.HANG]
    with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s") as late:
        ask("encode", digits()[0], timeout=0.2)
    assert isinstance(late.value, TimeoutError)
    assert late.value.problem is None


def test_the_service_is_told_the_deadline(ask: Ask, faulty: FaultyServer) -> None:
    ask("encode", digits()[0], client={"timeout": 1000})
    ask("encode", digits()[0], timeout=100)
    ask("encode", digits()[0], client={"timeout": None})
    first, second, none = (head.get("x-request-timeout-ms") for head in faulty.heads)
    assert 100_000 < int(first or 0) <= 1_000_000
    assert 0 < int(second or 0) <= 100_000
    assert none is None


def test_several_batches_are_on_their_way_at_once(ask: Ask, faulty: FaultyServer, client: Client) -> None:
    """Three requests at a time wait for each other, so that the call would not end if they were sent one by one."""
    faulty.gate = threading.Barrier(3)
    result = ask("decode", np.zeros((12, 20)), model="mnist-mlp@2", client={"batch_size": 2, "in_flight": 3})
    assert result.images.shape == (12, 28, 28)
    assert len(faulty.bodies) == 6


def test_one_bad_batch_ends_the_call(ask: Ask, faulty: FaultyServer) -> None:
    """The first request asks for the model's version, the second is refused, and none of the others is answered."""
    faulty.faults = ["", faults.CLOSED, *[faults.HANG] * 20]
    with pytest.raises(Overloaded):
        ask("encode", digits(), client={"batch_size": 10, "in_flight": 1})
    assert len(faulty.bodies) <= 3


@pytest.mark.parametrize("model", ["mnist-mlp", None])
def test_all_batches_ask_for_the_same_version(ask: Ask, faulty: FaultyServer, model: str | None) -> None:
    result = ask("sample", 6, model=model, client={"batch_size": 2})
    assert result.model == "mnist-mlp@2"
    assert all(b'"model": "mnist-mlp@2"' in body for body in faulty.bodies[1:])


def test_connections_are_kept(faulty: FaultyServer) -> None:
    with Client(faulty.url) as client:
        for _ in range(5):
            client.encode(digits()[0])
    assert (faulty.connections, len(faulty.bodies)) == (1, 5)


def test_nobody_at_the_url_is_said_so(nowhere: str) -> None:
    with Client(nowhere) as client, pytest.raises(Unreachable, match="refused"):
        client.health()


def test_a_service_with_keys_gets_the_clients_key(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys").write_text("sesame\n")
    with running(folder / "log", api_keys_file=folder / "keys", max_batch=8) as server:
        with Client(server.url) as stranger, pytest.raises(Unauthorized):
            stranger.models()
        with Client(server.url, api_key="sesame") as client:
            assert client.encode(digits()[:50]).mu.shape == (50, 20)
        monkeypatch.setenv("VAE_API_KEY", "sesame")
        monkeypatch.setenv("VAE_URL", server.url)
        with Client() as client:
            assert client.models().default == "mnist-mlp@2"
