"""Two stages on the cluster of RAY_ADDRESS, one that works and one that asks an endpoint: `python place_driver.py STORE`."""

import json
import sys
from dataclasses import replace

import fake_stages
import ray

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.tracking import NullTracker


def main(url: str) -> None:
    """Run both and print this process' node and theirs."""
    store = Store(url)
    with RayPlatform.open(store, NullTracker(), ClusterConfig(address="auto"), trains=False) as platform:
        works = platform.run(fake_stages.stage("where", store, place="task", number=1))
        asks = platform.run(replace(fake_stages.stage("where", store, place="task", number=2),
                                    endpoint={"url": "http://127.0.0.1:1/v1", "api_key": "key", "model": "m"}))
        print(json.dumps([ray.get_runtime_context().get_node_id(), works.facts["node"], asks.facts["node"]]))


if __name__ == "__main__":
    main(*sys.argv[1:])
