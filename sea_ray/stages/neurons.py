"""Neurons of each language: select, train each language on its own, merge, measure; and the arms beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from sea_ray.execution import StageContext
from sea_ray.neurons.merge import merge_packs
from sea_ray.neurons.pack import LanguagePack
from sea_ray.neurons.selection import select_neurons, stability
from sea_ray.neurons.sets import NeuronSet, overlap_matrix
from sea_ray.neurons.sites import Architecture, describe
from sea_ray.neurons.statistics import ImportanceStats
from sea_ray.stages.base import held_out_text, pack_languages, report_facts, train_policy, training_states
from sea_ray.stages.configs import ContinuedPretrainingStage, NeuronStage
from sea_ray.stages.corpus import load_corpus
from sea_ray.stages.measure import alone_bits, base_bits, gains, validation_bits
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.mixture import Mixture
from sea_ray.training.neuron_training import train_neurons


def describe_sets(sets: Mapping[str, NeuronSet], architecture: Architecture) -> dict[str, Any]:
    """Return what the report shows of the selected neurons."""
    return {
        "counts": {code: {site: chosen.counts(site, architecture.num_layers) for site in chosen.sites}
                   for code, chosen in sets.items()},
        "neurons": {code: chosen.count for code, chosen in sets.items()},
        "parameter_share": {code: chosen.share(architecture) for code, chosen in sets.items()},
        "overlap": overlap_matrix(sets),
    }


def build(context: StageContext) -> Mapping[str, Any]:
    """Write one pack per language and their merge; facts: the sets, the reports, bits per byte before and after.

    Each language trains on its own from the untouched base; the figures are those of all packs merged.
    """
    config: NeuronStage = context.config
    corpus = load_corpus(context)
    model = Checkpoint.load(context.parents["base"]).load_model()
    architecture = describe(model)
    stats = ImportanceStats.load(context.parents["statistics"])
    selected = select_neurons(stats, architecture, config.selection)
    sets = {code: selected[code] for code in config.languages}
    sequences = pack_languages(corpus, config.languages, config.training.sequence_tokens)
    before = base_bits(context)
    packs: list[LanguagePack] = []
    runs: dict[str, dict[str, Any]] = {}
    for code, chosen in sets.items():
        targets = sequences[code].without_openings(config.context_tokens)
        held_out = held_out_text(corpus, dict.fromkeys((code, "en")), config.training)
        with training_states(context, code) as states:
            pack, report, proof = train_neurons(model, chosen, targets, config.training, context.worker,
                                                context.tracker.child(code), held_out=held_out, states=states)
        packs.append(pack)
        runs[code] = {"training": report_facts(report), "untouched": asdict(proof) | {"statement": str(proof)}}
    for code, bits in alone_bits(model, packs, corpus, context.worker).items():
        runs[code]["alone_bits_per_byte"] = bits
    merged, interference = merge_packs(packs, config.merge)
    with merged.applied(model):
        after = validation_bits(model, corpus, context.worker)
    if context.worker.rank == 0:
        for pack in packs:
            (context.folder / "packs" / pack.language).mkdir(parents=True)
            pack.save(context.folder / "packs" / pack.language)
        (context.folder / "merged").mkdir()
        merged.save(context.folder / "merged")
    return {
        **describe_sets(sets, architecture), **gains(before, after), "runs": runs, "interference": interference,
        "before": before, "after": after, "tokens": sum(run["training"]["tokens"] for run in runs.values()),
        "merged_parameter_share": merged.num_values / architecture.total_values,
        "stability": {code: value for code, value in stability(stats, architecture, config.selection).items()
                      if code in sets},
    }


def build_continued_pretraining(context: StageContext) -> Mapping[str, Any]:
    """Write the checkpoint of the control; facts: its report, bits per byte before and after."""
    config: ContinuedPretrainingStage = context.config
    corpus = load_corpus(context)
    base = Checkpoint.load(context.parents["base"])
    model = base.load_model()
    before = base_bits(context)
    rest = (1 - sum(config.replay.values())) / len(config.languages)
    weights = dict.fromkeys(config.languages, rest) | dict(config.replay)
    sequences = pack_languages(corpus, tuple(weights), config.training.sequence_tokens)
    training = replace(config.training, steps=config.training.steps * len(config.languages),
                       learning_rate=config.learning_rate)
    mixture = Mixture({code: part.num_sequences for code, part in sequences.items()},
                      weights, training.seed, None, training.total_samples)
    targets = {code: part.without_openings(config.context_tokens) for code, part in sequences.items()}
    trained = train_policy(model, config.policy, targets, mixture, training, context,
                           held_out_text(corpus, corpus.languages, training))
    after = validation_bits(model, corpus, context.worker)
    if context.worker.rank == 0:
        Checkpoint.save(context.folder, model, base.load_tokenizer())
    return {**gains(before, after), **trained, "before": before, "after": after}


def build_merged(context: StageContext) -> Mapping[str, Any]:
    """Write the base with the merged packs as a checkpoint of its own; facts: what the merge changed."""
    base = Checkpoint.load(context.parents["base"])
    model = base.load_model()
    merged = LanguagePack.load(context.parents["neurons"] / "merged")
    merged.apply(model)
    Checkpoint.save(context.folder, model, base.load_tokenizer())
    return {"language": merged.language, "neurons": merged.neurons.count, "values": merged.num_values,
            "base_digest": merged.base_digest}
