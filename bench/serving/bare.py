"""The limit of any uvicorn application: read the body, answer with fixed bytes of the size of an /encode answer.

    BENCH_ANSWER_BYTES=500 python -m bench.serving.bare PORT

The settings are those of `python -m service`: uvloop, httptools, no access log, no server header, one worker.
"""

from __future__ import annotations

import os
import sys

import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

ANSWER = b"0" * int(os.environ.get("BENCH_ANSWER_BYTES", "500"))


async def app(
    scope: Scope,  # noqa: ARG001
    receive: ASGIReceiveCallable,
    send: ASGISendCallable,
) -> None:
    """Answer anything."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": ANSWER, "more_body": False})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
