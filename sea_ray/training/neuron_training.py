"""Training one language's neurons from a base that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from transformers import PreTrainedModel

from sea_ray.errors import DataError
from sea_ray.neurons.pack import LanguagePack
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.untouched import UntouchedProof, tensor_digests
from sea_ray.tracking import Tracker
from sea_ray.training.config import TrainConfig, TrainPolicy
from sea_ray.training.engine import Worker
from sea_ray.training.loop import TrainReport, train
from sea_ray.training.mixture import Mixture
from sea_ray.training.policy import trainable
from sea_ray.training.sequences import SequenceSet
from sea_ray.training.state import TrainingStates


def train_neurons(model: PreTrainedModel, neurons: NeuronSet, sequences: SequenceSet, config: TrainConfig,
                  worker: Worker, tracker: Tracker, *, held_out: Mapping[str, SequenceSet] | None = None,
                  states: TrainingStates | None = None) -> tuple[LanguagePack, TrainReport, UntouchedProof]:
    """Train a language's neurons on its text and return the change as a pack; called by every rank alike.

    Args:
        model: the base; byte for byte the same when this returns.
        neurons: what trains.
        sequences: the language's packed text.
        config: steps, batch, optimiser; what trains is the change, so weight decay pulls the neurons towards the base.
        worker: this rank.
        tracker: receives the loop's figures and the proof.
        held_out, states: as for `train`.

    Returns:
        The pack, the loop's report, and the proof, made by applying the pack, that nothing outside the neurons moves.

    Raises:
        ConfigError: if the set is empty.
        DataError: if anything else than the neurons moved.
    """
    base_digests = tensor_digests(model)
    mixture = Mixture({neurons.language: sequences.num_sequences}, {neurons.language: 1.0}, config.seed, None,
                      config.total_samples)
    with trainable(model, TrainPolicy(kind="neurons"), neurons) as trained:
        report = train(model, {neurons.language: sequences}, mixture, config, worker, tracker, held_out=held_out,
                       states=states)
    assert trained.compact is not None
    pack = LanguagePack(language=neurons.language, deltas=trained.compact.deltas(), base_digests=base_digests,
                        training={"config": asdict(config), "report": _record(report)})
    with pack.applied(model):  # refuses a base of which any byte moved
        proof = trained.prove_untouched(model)
    if not proof.holds:
        raise DataError(f"neuron training of {neurons.language!r} moved more than its neurons: {proof}")
    if worker.rank == 0:
        tracker.note(str(proof))
    return pack, report, proof


def _record(report: TrainReport) -> dict[str, object]:
    return {"steps": report.steps, "tokens": report.tokens, "seconds": report.seconds,
            "first_loss": report.losses[0], "last_loss": report.losses[-1], "trained_values": report.trained_values,
            "total_values": report.total_values, "engine": dict(report.engine)}
