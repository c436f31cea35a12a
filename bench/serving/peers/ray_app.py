"""The service itself as one replica of Ray Serve: what service/ray_serve.py makes.

    VAE_MODELS_DIR=models python -m bench.serving.peers.ray_app PORT

Which proxy stands in front is said in the environment (bench/ray_serve.py).
"""

from __future__ import annotations

import signal
import sys

import ray
from ray import serve

from service.ray_serve import DEPLOYMENT

if __name__ == "__main__":
    ray.init(include_dashboard=False, configure_logging=False, log_to_driver=False, _metrics_export_port=None)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    replica = DEPLOYMENT.options(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
    serve.run(replica.bind(), route_prefix="/")
    signal.pause()
