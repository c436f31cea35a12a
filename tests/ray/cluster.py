"""A Ray cluster of two nodes on this machine with the service on it: `.ray/bin/python tests/ray/cluster.py DOCUMENT`.

DOCUMENT is what `serve deploy` takes, as JSON. Each line on standard input is a command, [NAME, ARGUMENT...], which is
answered by a line of JSON on standard output, until there are no more. The head node has the proxy; each node has room
for one replica.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


class Commands:
    """What a test can have done."""

    def __init__(self, cluster: Cluster, document: dict[str, Any]) -> None:
        self.cluster, self.document = cluster, document
        self.worker = cluster.add_node(**NODE)
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        with contextlib.suppress(
            TimeoutError
        ):  # it waits for a minute; a busy machine may need more, which does no harm
            serve.start(proxy_location=document["proxy_location"], http_options=document["http_options"])
        self.deploy({}, until_it_runs=True)

    def deploy(self, variables: dict[str, str], *, until_it_runs: bool = False) -> None:
        """Deploy, with these variables of the environment besides those of the document."""
        self.document["applications"][0]["runtime_env"]["env_vars"] |= variables
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(self.document))
        while until_it_runs and (status := self.status())["application"] != "RUNNING":
            if status["application"] == "DEPLOY_FAILED":
                raise RuntimeError(status["message"])

    def status(self) -> dict[str, Any]:
        """The application's state, and why; of each replica, by pid, its state and whether it is on the head node."""
        time.sleep(0.5)  # tests ask again and again, and Ray's controller is busy enough
        details = _get_global_client().get_serve_details()["applications"]["vae"]
        head = self.cluster.head_node.node_id
        return {
            "application": details["status"],
            "message": details["message"],
            "replicas": {
                replica.get("pid"): [replica["state"], replica.get("node_id") == head]
                for deployment in details["deployments"].values()
                for replica in deployment["replicas"]
            },
        }

    def kill(self, pid: int) -> None:
        """Kill a replica's process."""
        os.kill(pid, signal.SIGKILL)

    def kill_node(self) -> None:
        """Kill everything of the node that has no proxy."""
        self.cluster.remove_node(self.worker, allow_graceful=False)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray itself prints, too
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        commands = Commands(cluster, json.loads(sys.argv[1]))
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(getattr(commands, name)(*arguments)), file=answers, flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
