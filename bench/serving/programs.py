"""Which programs answer: the bare server, this service and its variants, the peers. Each is a row in a table here.

In a command {python} is the interpreter of the program's environment, {port} the port to serve on, {port2} and
{port3} two more that are free; in its environment {scratch} is a folder that goes when it stops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bench.serving import traffic
from bench.serving.traffic import Request


@dataclass(frozen=True)
class Program:
    """A server to start, and the request with one digit that it is asked."""

    name: str
    command: str
    request: Request = traffic.ENCODE
    env: dict[str, str] = field(default_factory=dict)
    environment: str | None = None  # requirements/<this>.txt; None: the interpreter that runs the benchmark


BARE: Final = Program("bare uvicorn", "{python} -m bench.serving.bare {port}")
TRIVIAL: Final = Program("trivial responder", "{python} -m bench.serving.trivial {port}")

SERVICE: Final = Program("this service", "{python} -m service", env={"VAE_PORT": "{port}"})
NO_BATCHING: Final = Program("this service, batching off", SERVICE.command, env=SERVICE.env | {"VAE_BATCH": "1"})
TWO_WORKERS: Final = Program("this service, 2 workers", SERVICE.command, env=SERVICE.env | {"VAE_WORKERS": "2"})

_PEERS: Final = "{python} -m bench.serving.peers."
_FIELD: Final = traffic.field_body()
_PROTOCOL: Final = Request("/v2/models/vae/infer", traffic.inference_protocol_body())

FASTAPI: Final = (
    Program("FastAPI, def", _PEERS + "plain_fastapi {port}", Request("/def", traffic.ENCODE.body), {}, "fastapi"),
    Program(
        "FastAPI, async def", _PEERS + "plain_fastapi {port}", Request("/async", traffic.ENCODE.body), {}, "fastapi"
    ),
)
MLSERVER: Final = Program("MLServer", _PEERS + "ml_server {port} {port2} {port3}", _PROTOCOL, environment="mlserver")
PYTRITON: Final = Program("PyTriton", _PEERS + "py_triton {port} {port2} {port3}", _PROTOCOL, environment="pytriton")
_RAY: Final = {"RAY_TMPDIR": "{scratch}", "RAY_USAGE_STATS_ENABLED": "0"}
MODEL_SERVERS: Final = (
    Program("LitServe", _PEERS + "lit_serve {port}", Request("/encode", _FIELD), {}, "litserve"),
    *(
        Program(
            name,
            "{python} -m bentoml serve bench.serving.peers.bento_ml:" + variant + " --host 127.0.0.1 --port {port}",
            env={"BENTOML_DO_NOT_TRACK": "1"},
            environment="bentoml",
        )
        for name, variant in (("BentoML", "Single"), ("BentoML, batching", "Batching"))
    ),
    MLSERVER,
    Program("Ray Serve", _PEERS + "ray_serve {port}", Request("/", _FIELD), _RAY, "ray"),
)
# What its documentation recommends where throughput matters: HAProxy (in C) instead of Ray's own proxy, straight to
# the replica's own HTTP port. One thread of it, for two cores.
RAY_HAPROXY: Final = Program(
    "Ray Serve, HAProxy",
    _PEERS + "ray_serve {port}",
    Request("/", _FIELD),
    _RAY
    | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    }
    | {
        f"RAY_SERVE_HAPROXY_{what}": "{scratch}/" + file
        for what, file in (
            ("CONFIG_FILE_LOC", "haproxy.cfg"),
            ("SOCKET_PATH", "admin.sock"),
            ("METRICS_SOCKET_PATH", "metrics.sock"),
            ("SERVER_STATE_BASE", ""),
            ("SERVER_STATE_FILE", "state"),
        )
    },
    "ray",
)
PEERS: Final = (*FASTAPI, *MODEL_SERVERS, RAY_HAPROXY, PYTRITON)
