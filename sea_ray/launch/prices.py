"""What machines cost: `conf/prices.yaml`, dated and editable, and how many of them a cluster needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sea_ray.config import ClusterConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, nearest
from sea_ray.launch.compose import read_table
from sea_ray.launch.machine import cluster_address

TABLE = "prices.yaml"
Range = tuple[float, float]
"""Least and most USD an hour."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A type of machine of a provider."""

    cpus: int
    """Virtual processors."""
    accelerator: str | None = None
    """As conf/accelerators.yaml names it; null: processors alone."""
    accelerators: int = 0
    """How many of them."""
    on_demand: Range
    """Price of one machine, [least, most]."""
    spot: Range | None = None
    """The same for machines that may be taken away; null: there are none."""
    region: str
    """Where it costs that."""
    source: str
    """Where the figures are from; ASSUMPTION: nothing confirms them."""
    dated: str
    """Day on which they stood there."""
    spot_source: str = ""
    """Where those of spot are from, if from elsewhere."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.cpus < 1:
            raise ConfigError("cpus", f"{self.cpus} is below 1")
        if (self.accelerator is None) != (self.accelerators == 0) or self.accelerators < 0:
            raise ConfigError("accelerators", f"{self.accelerators} of {self.accelerator!r}: name both, or neither")
        for name, price in (("on_demand", self.on_demand), ("spot", self.spot)):
            if price is not None and not 0 < price[0] <= price[1]:
                raise ConfigError(name, f"{list(price)} is not [least, most] above 0")

    @property
    def is_assumed(self) -> bool:
        """Whether its price on demand is confirmed by nothing."""
        return self.source.startswith("ASSUMPTION")

    @property
    def is_spot_assumed(self) -> bool:
        """Whether its price as spot is confirmed by nothing."""
        return (self.spot_source or self.source).startswith("ASSUMPTION")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The machines that one provider needs for a cluster."""

    provider: str
    machine: str
    """Type, as the provider calls it."""
    of: Machine
    count: int
    """How many machines."""

    @property
    def on_demand(self) -> Range:
        """Of all machines, USD an hour."""
        return _times(self.count, self.of.on_demand)

    @property
    def spot(self) -> Range | None:
        """The same for machines that may be taken away."""
        return _times(self.count, self.of.spot) if self.of.spot else None


def _times(count: int, price: Range) -> Range:
    return count * price[0], count * price[1]


def load_prices() -> Mapping[str, Mapping[str, Machine]]:
    """Return provider -> type of machine -> what it has and costs, of the configuration folder in use.

    Raises:
        ConfigError: the file is missing or malformed, with the key.
    """
    values = read_table(TABLE)
    return {str(provider): {str(name): decode(Machine, {**machine, "dated": str(machine.get("dated", ""))},
                                              f"prices.{provider}.{name}") for name, machine in machines.items()}
            for provider, machines in values.items()}


def offers(cluster: ClusterConfig) -> list[Offer]:
    """Return of each provider that has what a cluster's workers compute on the machines that cost least on demand.

    A cluster that names its provider, or also its type of machine, has no other. On "local" all workers share one machine.

    Raises:
        ConfigError: the provider or the machine is not in the table, or has another accelerator.
    """
    table = load_prices()
    if cluster.provider is not None:
        if cluster.provider not in table:
            raise ConfigError("cluster.provider", f"{TABLE} has no {cluster.provider!r}{nearest(cluster.provider, table)}")
        table = {cluster.provider: _named(cluster, table[cluster.provider])}
    return [min(found, key=lambda offer: (round(offer.on_demand[0], 2), offer.count))
            for provider, machines in table.items() if (found := _suitable(cluster, provider, machines))]


def usd_per_hour(cluster: ClusterConfig) -> Range | None:
    """Return the least and the most that all machines of a cluster's workers cost an hour, by `cluster.pays`; None without a
    provider.

    Raises:
        ConfigError: the provider has no machine that suits, or none as spot.
    """
    offer = _offered(cluster)
    return None if offer is None else _times(offer.count, _price(cluster, offer))


def usd_per_machine_hour(cluster: ClusterConfig) -> Range | None:
    """Return the same of one of these machines.

    Raises:
        ConfigError: as there.
    """
    offer = _offered(cluster)
    return None if offer is None else _price(cluster, offer)


def _offered(cluster: ClusterConfig) -> Offer | None:
    """Return the machines of the provider that a cluster names."""
    if cluster.provider is None:
        return None
    found = offers(cluster)
    if not found:
        raise ConfigError("cluster.provider", f"{TABLE} has no machine of {cluster.provider!r} with "
                                              f"{_demand(cluster)} of {cluster.accelerator or 'processors alone'}; add it, or "
                                              "name another provider")
    (offer,) = found
    return offer


def _price(cluster: ClusterConfig, offer: Offer) -> Range:
    price = offer.of.spot if cluster.pays == "spot" else offer.of.on_demand
    if price is None:
        raise ConfigError("cluster.pays", f"{TABLE} has no price of {offer.machine} as spot: set on_demand, or add it")
    return price


def cheapest_processors() -> tuple[str, str, Machine]:
    """Return provider, type and machine of the processors that cost least on demand.

    Raises:
        ConfigError: no machine has processors alone.
    """
    found = [(provider, name, machine) for provider, machines in load_prices().items() for name, machine in machines.items()
             if machine.accelerator is None]
    if not found:
        raise ConfigError("", f"{TABLE} has no machine without accelerators; add one, for the corpus")
    return min(found, key=lambda each: each[2].on_demand[0] / each[2].cpus)


def _named(cluster: ClusterConfig, machines: Mapping[str, Machine]) -> Mapping[str, Machine]:
    if cluster.machine is None:
        return machines
    if cluster.machine not in machines:
        raise ConfigError("cluster.machine", f"{TABLE} has no {cluster.machine!r} of {cluster.provider}"
                                             f"{nearest(cluster.machine, machines)}")
    machine = machines[cluster.machine]
    if machine.accelerator != _accelerator(cluster):
        raise ConfigError("cluster.machine", f"{cluster.machine} has {machine.accelerator or 'processors alone'} and "
                                             f"cluster.accelerator is {cluster.accelerator!r}: make them agree")
    return {cluster.machine: machine}


def _accelerator(cluster: ClusterConfig) -> str | None:
    return None if cluster.accelerator == "cpu" else cluster.accelerator


def _demand(cluster: ClusterConfig) -> int:
    """Return the accelerators, or without one the processors, that all workers take."""
    workers = cluster.training.num_workers * cluster.worker_groups
    return workers if _accelerator(cluster) else workers * max(1, cluster.training.threads_per_worker)


def _suitable(cluster: ClusterConfig, provider: str, machines: Mapping[str, Machine]) -> list[Offer]:
    accelerator, demand = _accelerator(cluster), _demand(cluster)
    found = []
    for name, machine in machines.items():
        has = machine.accelerators if accelerator else machine.cpus
        count = math.ceil(demand / has) if has else 0
        if machine.accelerator == accelerator and (count == 1 or cluster_address(cluster) != "local"):
            found.append(Offer(provider=provider, machine=name, of=machine, count=count))
    return found
