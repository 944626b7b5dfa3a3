"""Three nodes of a Ray cluster as processes of this machine, on loopback alone: for a test, which talks by lines.

Takes the folder for Ray's own files. Says the cluster's address; on the line `kill` it kills a node with all that
runs on it, as a machine goes; on the end of input all of them end.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import psutil

os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_health_check_period_ms": "500",  # a dead node is noticed in three seconds, by default in fifteen
}

import ray.cluster_utils

SETTINGS = {
    "num_cpus": 1,
    "node_ip_address": "127.0.0.1",
    "include_dashboard": False,
    "object_store_memory": 100_000_000,
}


def kill(cluster: ray.cluster_utils.Cluster, node: Any) -> None:
    """The workers stand still before they go: what they have in hand then, or are given, never comes back."""
    (raylet,) = node.all_processes["raylet"]
    family = psutil.Process(raylet.process.pid).children(recursive=True)
    for process in family:
        process.suspend()
    time.sleep(0.5)
    cluster.remove_node(node, allow_graceful=False)
    for process in family:
        process.kill()


def main() -> None:
    settings = {**SETTINGS, "temp_dir": sys.argv[1]}
    cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=settings)
    nodes = [cluster.add_node(**settings) for _ in range(2)]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            kill(cluster, nodes.pop())
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
