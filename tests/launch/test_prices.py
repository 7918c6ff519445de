"""Prices: a dated table, the machines that a cluster needs of each provider, and what they cost an hour."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from sea_ray.config import ClusterConfig
from sea_ray.errors import ConfigError
from sea_ray.launch.accelerators import load_accelerators
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.prices import Machine, cheapest_processors, load_prices, offers, usd_per_hour, usd_per_machine_hour
from sea_ray.training.config import ExecutionConfig


@pytest.fixture(autouse=True)
def no_address(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def cluster(workers=8, accelerator="a100_80gb", address="auto", **rest):
    execution = ExecutionConfig(num_workers=workers, engine="deepspeed")
    return ClusterConfig(accelerator=accelerator, address=address, training=execution, **rest)


def of(cluster):
    return {offer.provider: (offer.machine, offer.count) for offer in offers(cluster)}


def test_every_price_is_dated_has_a_source_and_names_a_known_accelerator():
    table = load_prices()
    assert {"aws", "gcp", "lambda"} <= table.keys()
    known = load_accelerators().accelerators
    for machines in table.values():
        for machine in machines.values():
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", machine.dated)
            assert machine.source
            assert machine.accelerator is None or machine.accelerator in known
            assert machine.spot is None or machine.spot[0] <= machine.on_demand[0]


def test_each_provider_that_has_the_accelerator_offers_as_many_machines_as_the_workers_need():
    assert of(cluster(8)) == {"aws": ("p4de.24xlarge", 1), "gcp": ("a2-ultragpu-8g", 1), "lambda": ("gpu_8x_a100_80gb_sxm4", 1),
                              "runpod": ("8x A100 SXM", 1)}
    assert of(cluster(9))["aws"] == ("p4de.24xlarge", 2)
    assert of(cluster(1, "a10g")) == {"aws": ("g5.xlarge", 1)}
    assert of(cluster(4, "a10g", worker_groups=3))["aws"] == ("g5.xlarge", 12)


def test_on_one_machine_the_workers_cannot_be_spread():
    assert of(cluster(2, "h100_80gb", "local"))["aws"] == ("p5.48xlarge", 1)
    assert of(cluster(2, "h100_80gb"))["aws"] == ("p5.4xlarge", 2)
    assert of(cluster(9, "h100_80gb", "local")) == {}


def test_processors_alone_are_priced_too():
    assert of(cluster(8, None)) == {"aws": ("c7i.4xlarge", 1)}
    assert of(cluster(8, "cpu")) == of(cluster(8, None))
    provider, name, machine = cheapest_processors()
    assert (provider, name) == ("aws", "c7i.4xlarge")
    assert machine.accelerator is None


def test_the_hour_costs_what_the_named_machines_cost_the_way_they_are_paid():
    machine = load_prices()["aws"]["g5.xlarge"]
    spot = cluster(4, "a10g", provider="aws")
    assert usd_per_hour(spot) == (4 * machine.spot[0], 4 * machine.spot[1])
    assert usd_per_machine_hour(spot) == machine.spot
    assert usd_per_hour(dataclasses.replace(spot, pays="on_demand")) == (4 * machine.on_demand[0], 4 * machine.on_demand[1])
    eight = load_prices()["aws"]["g5.48xlarge"]
    assert usd_per_hour(dataclasses.replace(spot, machine="g5.48xlarge")) == eight.spot
    assert usd_per_hour(cluster(4, "a10g")) is None
    assert usd_per_machine_hour(cluster(4, "a10g")) is None


@pytest.mark.parametrize(("changed", "said"), [
    ({"provider": "awz"}, "cluster.provider: prices.yaml has no 'awz'; did you mean aws"),
    ({"provider": "aws", "machine": "g5.xlarg"}, "did you mean g5.xlarge"),
    ({"provider": "aws", "machine": "g6.xlarge"}, "g6.xlarge has l4 and cluster.accelerator is 'a10g'"),
    ({"provider": "gcp"}, "no machine of 'gcp' with 4 of a10g"),
])
def test_what_is_not_in_the_table_is_refused_with_what_is_meant(changed, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        usd_per_hour(cluster(4, "a10g", **changed))


def test_the_spot_cluster_is_priced_by_the_machines_that_it_starts():
    config = compose_experiment(["experiment=seallms3_0_5b", "cluster=spot", "store.url=memory://bucket"]).cluster
    started = yaml.safe_load((Path(__file__).resolve().parents[2] / "cluster.yaml").read_text())["available_node_types"]
    assert config.machine in {node["node_config"]["InstanceType"] for node in started.values()}
    assert usd_per_hour(config) is not None


def test_a_provider_without_spot_is_paid_on_demand_only():
    config = cluster(8, provider="lambda")
    with pytest.raises(ConfigError, match="set on_demand"):
        usd_per_hour(config)
    assert usd_per_hour(dataclasses.replace(config, pays="on_demand")) == (22.32, 22.32)


def test_a_machine_of_nobody_is_refused():
    with pytest.raises(ConfigError, match="say whose it is"):
        ClusterConfig(machine="g5.xlarge")


@pytest.mark.parametrize(("changed", "path"), [({"on_demand": (2.0, 1.0)}, "on_demand"), ({"spot": (0.0, 1.0)}, "spot"),
                                               ({"accelerators": 1}, "accelerators"), ({"cpus": 0}, "cpus")])
def test_a_malformed_price_is_refused(changed, path):
    values = {"cpus": 4, "on_demand": (1.0, 1.0), "region": "r", "source": "s", "dated": "2026-01-01"}
    with pytest.raises(ConfigError) as caught:
        Machine(**values | changed)
    assert caught.value.path == path
