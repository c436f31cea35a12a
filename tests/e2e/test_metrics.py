from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families

from harness.digits import base64_png, digits
from harness.servers import Server, wait_for

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(server: Server) -> Samples:
    """Every sample's value, from whichever worker answers."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
        for sample in family.samples
    }


def wait_for_workers(server: Server, count: int) -> Samples:
    """What is exposed once so many workers are ready."""
    found: Samples = {}

    def ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            found.clear()
            found.update(scrape(server))
        return sum(number for (name, _), number in found.items() if name == "vae_ready") == count

    wait_for(ready)
    return found


def test_counts_are_those_of_both_workers_also_after_one_is_killed(serve: Callable[..., Server]) -> None:
    server = serve(workers=2)
    wait_for_workers(server, 2)
    for _ in range(40):  # each on a connection of its own, so that both workers get some
        assert httpx.post(f"{server.url}/encode", json={"images": [base64_png(digits()[0])]}).status_code == 200
    answered = ("vae_requests_total", frozenset({"route": "/encode", "method": "POST", "status": "200"}.items()))
    before = scrape(server)
    assert before[answered] == 40
    server.process.send_signal(signal.SIGSTOP)  # or it would replace the worker before this test has looked
    os.kill(server.workers()[0], signal.SIGKILL)
    after = wait_for_workers(server, 1)
    assert after[answered] == 40
    server.process.send_signal(signal.SIGCONT)
    again = wait_for_workers(server, 2)
    assert httpx.post(f"{server.url}/encode", json={"images": []}).status_code == 422
    again = scrape(server)
    for earlier, later in ((before, after), (after, again)):
        counts = [key for key in earlier if re.search("_(total|bucket|count|sum)$", key[0])]
        assert not [key for key in counts if later[key] < earlier[key]]
    assert again["vae_requests_total", frozenset({"route": "/encode", "method": "POST", "status": "422"}.items())] == 1
    server.process.terminate()
    assert server.process.wait(60) == 0
