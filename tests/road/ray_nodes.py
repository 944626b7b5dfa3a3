"""Three nodes of a Ray cluster as processes of this machine, on loopback alone: for a test, which talks by lines.

Says the cluster's address; on the line `kill` it kills a node without ceremony, on the end of input all of them.
"""

from __future__ import annotations

import os
import sys

os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}

import ray.cluster_utils

SETTINGS = {
    "num_cpus": 1,
    "node_ip_address": "127.0.0.1",
    "include_dashboard": False,
    "object_store_memory": 100_000_000,
}


def main() -> None:
    cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=SETTINGS)
    nodes = [cluster.add_node(**SETTINGS) for _ in range(2)]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
