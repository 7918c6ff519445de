"""What an experiment will take beforehand: its stages, their time, memory, storage and price."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sea_ray.artifacts import Store
from sea_ray.config import ExperimentConfig
from sea_ray.corpus.config import CorpusConfig
from sea_ray.corpus.sources import input_bytes
from sea_ray.execution import Stage
from sea_ray.launch.accelerators import AcceleratorTable, load_accelerators
from sea_ray.launch.durations import DEMO_BYTES, Clock, Pace, assumed_pace, text_size, training_key
from sea_ray.launch.foresight import Foresight, State, foresee, model_shape
from sea_ray.launch.machine import cluster_address
from sea_ray.launch.prices import Offer, Range, offers
from sea_ray.launch.room import Forecast, device_of, excess, forecasts, room_of
from sea_ray.launch.storage import result_bytes, state_bytes
from sea_ray.launch.timing import PROBE, Timed, time_steps
from sea_ray.stages.configs import SftStage
from sea_ray.training.estimate import step_work
from sea_ray.training.shape import ModelShape

ANSWER_FRAC = 0.3
"""Share of a packed conversation's tokens that are answers, and so targets."""
ALONE = 0.8
"""Share of their processors that workers have at least where nobody else uses the machine; they wait for each other, too."""
MOST_STEP_S = 3.0
"""Longest step, by the table, that is worth timing."""


@dataclass(frozen=True, kw_only=True)
class StageOutlook:
    """One stage and what it takes."""

    stage: Stage
    state: State
    seconds: float | None
    """From its start to its result; None: the accelerator is not known. 0 for a finished one."""
    num_bytes: int
    """Of its result."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A whole experiment beforehand."""

    config: ExperimentConfig
    foresight: Foresight
    trainings: tuple[Forecast, ...]
    stages: tuple[StageOutlook, ...]
    pace: Pace
    start_s: float
    """What a run takes besides its stages."""
    state_bytes: int
    """Most that states take in the store while a stage trains."""
    peak_bytes: float | None
    """Most that all processes of a run on this machine hold; None: on a cluster, or nothing is to do."""

    @property
    def to_do(self) -> list[StageOutlook]:
        """Stages that are not finished, or of which that is not known."""
        return [each for each in self.stages if each.state != "finished"]

    @property
    def seconds(self) -> float | None:
        """Wall time of the whole run; trials of a sweep train side by side in as many worker groups as there are."""
        total = self.start_s
        for each in self.to_do:
            if each.seconds is None:
                return None
            total += each.seconds / self._groups_at(each.stage)
        return total

    def _groups_at(self, stage: Stage) -> int:
        sizes = [sweep.num_trials for sweep in self.foresight.sweeps if stage.name in sweep.stages]
        return min(self.config.cluster.worker_groups, sizes[0]) if sizes else 1

    def seconds_by_kind(self) -> dict[str, float]:
        """Return kind of stage -> wall seconds of those to do."""
        found: dict[str, float] = {}
        for each in self.to_do:
            found[each.stage.kind] = found.get(each.stage.kind, 0.0) + (each.seconds or 0.0) / self._groups_at(each.stage)
        return found

    def bytes_by_kind(self) -> dict[str, int]:
        """Return kind of stage -> bytes of the results to come."""
        found: dict[str, int] = {}
        for each in self.to_do:
            found[each.stage.kind] = found.get(each.stage.kind, 0) + each.num_bytes
        return found


def text_bytes(corpus: CorpusConfig) -> int:
    """Return the bytes of text that a corpus is made of: of its files, or as many as it may take of datasets; 0: not known."""
    if corpus.source == "hub":
        return corpus.max_bytes_per_language * len(corpus.languages)
    return input_bytes(corpus)


def foretell(config: ExperimentConfig, store: Store, *, measure: bool) -> Outlook:
    """Return what an experiment will take.

    Args:
        config: the experiment.
        store: says what is finished.
        measure: whether a few steps are timed, where this machine is the one that will train.

    Raises:
        SeaRayError: the model's shape is not known, or the accelerator is not in the table.
    """
    table, (shape, _), foresight = load_accelerators(), model_shape(config.model), foresee(config, store)
    trainings = tuple(forecasts(config, foresight, shape))
    pace = _pace(config, trainings, foresight, table, measure)
    num_bytes = text_bytes(config.corpus)
    text = text_size(config, foresight.results.get("corpus"), num_bytes)
    clock = Clock(config=config, shape=shape, text=text, text_bytes=num_bytes, table=table, pace=pace)
    size = num_bytes or text.documents * DEMO_BYTES
    stages = tuple(StageOutlook(stage=stage, state=state, seconds=0.0 if state == "finished" else clock.seconds(stage),
                                num_bytes=result_bytes(stage, config, shape, text, size)) for stage, state in foresight.stages)
    missing = [each for each in stages if each.state != "finished"]
    return Outlook(config=config, foresight=foresight, trainings=trainings, stages=stages, pace=pace,
                   start_s=clock.start_s([(each.stage, each.seconds or 0.0) for each in missing]),
                   state_bytes=state_bytes([each.stage for each in missing], config, shape),
                   peak_bytes=_peak_bytes(config, trainings, shape, table) if missing else None)


def can_time(config: ExperimentConfig) -> bool:
    """Return whether this machine's processors are what will train."""
    return device_of(config.cluster) == "cpu" and cluster_address(config.cluster) == "local"


def _pace(config: ExperimentConfig, trainings: Iterable[Forecast], foresight: Foresight, table: AcceleratorTable,
          measure: bool) -> Pace:
    """Return the pace, timed if that is asked for, possible and of use."""
    cluster, device = config.cluster, device_of(config.cluster)
    waiting = [each for each in trainings if each.planned.state != "finished"]
    dtypes = [each.planned.training.config.dtype for each in waiting]
    pace = assumed_pace(cluster, device, table, max(dtypes, key=dtypes.count, default="float32"))
    room = room_of(cluster)
    timed: dict[object, Timed] = {}
    answers = {training_key(each.planned.training) for each in waiting for stage, _ in foresight.stages
               if isinstance(stage.config, SftStage) and each.planned.name == stage.name}
    for each in waiting:
        training = each.planned.training
        step_s = pace.step_s(training, cluster.training)
        if not excess(each, room) and step_s is not None and step_s < MOST_STEP_S:
            key = training_key(training)
            timed.setdefault(key, Timed(training=training, target_frac=ANSWER_FRAC if key in answers else 1.0))
    if not measure or not can_time(config) or not timed:
        return pace
    probe, *times = time_steps([Timed(training=PROBE), *timed.values()], cluster.training)
    seconds = [each.seconds for each in times]
    flops = [step_work(each.training).total for each in timed.values()]
    first = flops[0] / seconds[0] / cluster.training.num_workers
    share = statistics.mean(each.share for each in (probe, *times))
    # The rest of a run neither gives way to others nor waits for a second process: where these take half of the processors, it
    # takes less than twice as long. The root lies between what runs on busy and on quiet machines took.
    slowness = probe.seconds / table.overheads.probe_step_s * math.sqrt(share)
    return Pace(flops_per_s=first, reading_flops_per_s=first, slowness=slowness, probe_s=probe.seconds, share=share,
                step_cost=table.overheads.step_cost,
                steps=dict(zip((training_key(each.training) for each in timed.values()), zip(flops, seconds, strict=True),
                               strict=True)),
                words=f"timed here: {len(timed)} kinds of step, {first / 1e9:,.1f} GFLOP/s a worker; the probe's step takes "
                      f"{probe.seconds:.2f} s, {slowness:.2f} of what it took when the rest was measured")


def _peak_bytes(config: ExperimentConfig, trainings: Iterable[Forecast], shape: ModelShape, table: AcceleratorTable
                ) -> float | None:
    """Return what all processes of a run on this machine hold at most: processes stay when their work is done."""
    cluster, memory, device = config.cluster, table.memory, device_of(config.cluster)
    if cluster_address(cluster) != "local":
        return None
    workers = cluster.training.num_workers * cluster.worker_groups
    training = max((each.memory.peak if device == "cpu" else each.memory.host for each in trainings), default=0)
    reading = 4 * shape.num_values
    held = memory.driver_bytes + memory.ray_bytes + workers * memory.worker_bytes + cluster.num_tasks * memory.task_bytes
    served = memory.server_bytes + config.serving.num_replicas * (memory.replica_bytes + reading) + cluster.num_tasks * reading
    return held + max(workers * training, served)


def machine_hours(outlook: Outlook) -> float | None:
    """Return the hours for which machines are paid."""
    return None if outlook.seconds is None else outlook.seconds / 3600


def prices(outlook: Outlook) -> list[tuple[Offer, Range | None, Range]]:
    """Return of each provider that suits its machines and what they cost for the whole run: as spot, and on demand; USD.

    Processors alone have no price unless the cluster names a provider.
    """
    hours, cluster = machine_hours(outlook), outlook.config.cluster
    if hours is None or (cluster.provider is None and cluster.accelerator in (None, "cpu")):
        return []
    return [(offer, _times(offer.spot, hours) if offer.spot else None, _times(offer.on_demand, hours))
            for offer in offers(cluster)]


def _times(price: Range, hours: float) -> Range:
    return price[0] * hours, price[1] * hours


def summary(outlook: Outlook) -> Iterator[str]:
    """Yield the lines that say what a run will take."""
    states = [each.state for each in outlook.stages]
    counts = {"to do": states.count("to do"), "that a sweep decides": states.count("open"),
              "to reuse": states.count("finished")}
    yield f"stages      {len(states)}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    for sweep in outlook.foresight.sweeps:
        finished = "an earlier sweep decides which are finished" if sweep.is_open else f"{sweep.num_finished} finished"
        yield f"    sweep {sweep.name}: {sweep.num_trials} trials, {finished}"
    if not outlook.to_do:
        yield "time        nothing is to do"
        return
    seconds = outlook.seconds
    if seconds is None:
        yield "time        not known: name cluster.accelerator"
    else:
        parts = {"start and end": outlook.start_s, **outlook.seconds_by_kind()}
        yield f"time        {hours(seconds)}: {_listed({name: hours(part) for name, part in parts.items() if part >= 1})}"
        if outlook.pace.share < ALONE:
            yield (f"            others use this machine, the workers have {outlook.pace.share:.0%} of the processors that they "
                   f"ask for; with all of them about {hours(seconds * outlook.pace.share)}")
        gpus = outlook.config.cluster.training.num_workers * outlook.config.cluster.worker_groups
        if device_of(outlook.config.cluster) != "cpu":
            yield f"GPU-hours   {gpus * seconds / 3600:,.1f}, of {gpus} GPUs for the whole time"
    if outlook.peak_bytes is not None:
        yield f"memory      {outlook.peak_bytes / 1e9:,.1f} GB at the most, all processes on this machine"
    results = outlook.bytes_by_kind()
    kinds = _listed({kind: size(part) for kind, part in results.items() if part >= 1e5})
    yield (f"storage     {size(sum(results.values()))} of results to come: {kinds}; {size(outlook.state_bytes)} of states on the "
           "way")
    for offer, spot, on_demand in prices(outlook):
        assumed = " (assumed)" if offer.of.is_spot_assumed else ""
        ways = [f"{usd(spot)} as spot{assumed}"] if spot else []
        ways.append(f"{usd(on_demand)} on demand" + (" (assumed)" if offer.of.is_assumed else ""))
        yield (f"price       {offer.provider}, {offer.count} x {offer.machine}: {' or '.join(ways)} ({offer.of.region}, "
               f"{offer.of.dated})")


def as_values(outlook: Outlook) -> dict[str, Any]:
    """Return what a run will take as plain values: seconds, bytes, USD; None where something is not known."""
    return {
        "name": outlook.config.name, "seconds": outlook.seconds, "seconds_by_kind": outlook.seconds_by_kind(),
        "stages": [{"name": each.stage.name, "kind": each.stage.kind, "state": each.state, "seconds": each.seconds,
                    "bytes": each.num_bytes, "fingerprint": each.stage.key.fingerprint} for each in outlook.stages],
        "sweeps": [{"name": each.name, "trials": each.num_trials, "finished": None if each.is_open else each.num_finished}
                   for each in outlook.foresight.sweeps],
        "peak_bytes": outlook.peak_bytes, "state_bytes": outlook.state_bytes,
        "result_bytes": sum(outlook.bytes_by_kind().values()),
        "prices": [{"provider": offer.provider, "machine": offer.machine, "count": offer.count, "spot_usd": spot,
                    "on_demand_usd": on_demand, "dated": str(offer.of.dated)} for offer, spot, on_demand in prices(outlook)]}


def usd(price: Range) -> str:
    """Return a range of prices in words."""
    least, most = f"{price[0]:,.2f}", f"{price[1]:,.2f}"
    return f"{least} USD" if least == most else f"{least} to {most} USD"


def _listed(parts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def hours(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 7200:
        return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(num_bytes: float) -> str:
    """Return bytes in words."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
