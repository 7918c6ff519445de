"""Fine-tuning: stage 1 broad, stage 2 the high-quality part with refusals and safety, each judged on validation conversations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from sea_ray.corpus.documents import Documents, OverlapRow
from sea_ray.corpus.drafts import MOST_OVERLAPS
from sea_ray.corpus.occurrence import document_texts, occurring
from sea_ray.corpus.tokenized import TokenizedCorpus
from sea_ray.demo import World
from sea_ray.errors import ConfigError, DataError, nearest
from sea_ray.evaluation.benchmarks import held_out as texts_held_out
from sea_ray.evaluation.contamination import Contamination
from sea_ray.execution import StageContext
from sea_ray.languages import HIGH_RESOURCE, LOW_RESOURCE
from sea_ray.sft.config import STAGES, SftConfig
from sea_ray.sft.conversation import Conversation
from sea_ray.sft.packing import pack_sources
from sea_ray.sft.review import Decision, join, read_sheet, review_id, reviewed
from sea_ray.sft.stages import REFUSAL_KINDS, all_conversations, build_stage_data
from sea_ray.stages.base import train_policy
from sea_ray.stages.configs import ConversationsStage, SftStage
from sea_ray.stages.corpus import load_corpus
from sea_ray.stages.measure import validation_bits
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.config import MixRule
from sea_ray.training.engine import Worker
from sea_ray.training.mixture import Mixture
from sea_ray.training.sequences import SequenceSet, collate, pack_corpus
from sea_ray.training.token_loss import TokenLoss

_TEXT = "/text"
Figure = TypeVar("Figure", int, float)


def build_conversations(context: StageContext) -> Mapping[str, Any]:
    """Write the packed conversations of both stages and the validation part; every mix of a sweep draws from them.

    Validation always holds the safety data: a baseline without it is judged by the same questions.
    """
    config: ConversationsStage = context.config
    tokenizer = load_corpus(context).load_tokenizer()
    world = World(config.world_seed, config.languages)
    held_out = Contamination(texts_held_out(config.benchmarks, config.languages))
    parts: dict[str, tuple[dict[str, list[Conversation]], int]] = {}
    for name, stage in zip(STAGES, config.data.stages, strict=True):
        length = config.sequence_tokens[name]
        parts[name] = (by_source(build_stage_data(config.data, stage, world), config.data.kind_shares), length)
        judged = replace(config.data, with_safety=True)
        parts[f"validation_{name}"] = (build_stage_data(judged, stage, world, split="validation"), length)
    kinds = {one.kind for name in STAGES for some in parts[name][0].values() for one in some}
    for kind in config.data.kind_shares:
        if kind not in kinds and (config.data.with_safety or kind not in REFUSAL_KINDS):
            raise ConfigError(f"sft.data.kind_shares.{kind}", f"no conversation is of this kind{nearest(kind, kinds)}")
    decisions = read_reviews(config.data, world)
    known = known_entities(context, [one for some, _ in parts.values() for many in some.values() for one in many])
    facts: dict[str, Any] = {}
    for part, (conversations, length) in parts.items():
        clean: dict[str, list[Conversation]] = {}
        repeating: dict[str, list[OverlapRow]] = {}
        review = Counter[str]()
        in_corpus = {code: sum(one.entity in known for one in some) for code, some in conversations.items()}
        for code, some in conversations.items():
            clean[code], repeating[code] = [], []
            for one in some:
                if one.entity in known:
                    continue
                shared = next(filter(None, (held_out.find(turn.content) for turn in one.messages)), None)
                if shared is None:
                    clean[code].append(one)
                else:
                    repeating[code].append(OverlapRow.of(one.language, one.file, one.row, shared))
        contaminated = {code: len(rows) for code, rows in repeating.items()}
        if part in STAGES and config.data.reviews:
            for code, some in clean.items():
                clean[code], counts = reviewed(some, decisions, require=config.data.require_review)
                review += counts
        for code, some in clean.items():
            if not some:
                raise DataError(f"no conversation in {code!r} is left for {part}: {contaminated[code]} of "
                                f"{len(conversations[code])} repeat a benchmark, {in_corpus[code]} ask for an invented name that "
                                "the corpus holds, review left out the others: review more, or set sft.data.require_review=false")
        packed = pack_sources(clean, tokenizer, length)
        for code, sequences in packed.sequences.items():
            sequences.save(context.folder / part / code)
        facts[part] = {"conversations": packed.num_conversations, "too_long": packed.num_too_long,
                       "contaminated": contaminated, "in_corpus": in_corpus, "review": dict(review),
                       "overlaps": [row for rows in repeating.values() for row in rows[:MOST_OVERLAPS]],
                       "filled": {code: packed.filled_frac(code) for code in packed.sequences}}
    return facts


def by_source(conversations: Mapping[str, Sequence[Conversation]], kind_shares: Mapping[str, float]
              ) -> dict[str, list[Conversation]]:
    """Return source -> conversations: kinds that have shares of their own under kind_source, the others under their language.

    Args:
        conversations: by language.
        kind_shares: kinds that have shares.
    """
    sources: dict[str, list[Conversation]] = {}
    for code, some in conversations.items():
        for kind in (None, *kind_shares):
            own = [one for one in some if (one.kind if one.kind in kind_shares else None) == kind]
            if own:
                sources[kind_source(code, kind)] = own
    return sources


def kind_source(code: str, kind: str | None) -> str:
    """Return the name of a language's conversations of one kind in a mixture; None: of those that have no share of their own."""
    return f"{code}/{kind}" if kind else code


def known_entities(context: StageContext, conversations: Sequence[Conversation]) -> set[str | None]:
    """Return the invented names that a document of any language holds: to refuse what the model has read of would be wrong."""
    names = dict.fromkeys(one.entity for one in conversations if one.entity)
    found = occurring(names, document_texts(Documents.load(context.parents["corpus"] / "documents")))
    if found:
        some = ", ".join(f"{name} ({code})" for name, code in list(found.items())[:5])
        context.tracker.note(f"{len(found):,} of {len(names):,} invented names occur in the corpus, such as {some}; what asks "
                             "for them is left out")
    return set(found)


def read_reviews(config: SftConfig, world: World) -> dict[str, Decision]:
    """Return what reviewers decided, by conversation."""
    if not config.reviews:
        return {}
    known = set(map(review_id, all_conversations(config, world)))
    return join(read_sheet(Path(sheet), known) for sheet in config.reviews)


def stage_mixture(config: SftStage, sizes: Mapping[str, int]) -> Mixture:
    """Return which packed sequences a stage draws when.

    Args:
        config: mix, share of plain text, limit of epochs, training.
        sizes: source -> number of packed sequences: a language's conversations under kind_source(code, kind), its plain text
            under text_source(code).
    """
    conversations = by_language({name: size for name, size in sizes.items() if not name.endswith(_TEXT)})
    mix = config.mix
    weights, limit = (mix.weights(conversations), mix.max_epochs) if isinstance(mix, MixRule) else (mix, None)
    shares = {code: weight / sum(weights.values()) for code, weight in weights.items()}
    rest = 1 - sum(config.kind_shares.values())
    sources: dict[str, float] = {}
    for code, share in shares.items():
        own = {kind_source(code, kind): part for kind, part in ((None, rest), *config.kind_shares.items())}
        own = {name: part for name, part in own.items() if name in sizes} or {code: 1.0}
        sources |= {name: (1 - config.text_share) * share * part / sum(own.values()) for name, part in own.items()}
    if config.text_share:
        sources |= {text_source(code): config.text_share * share for code, share in shares.items()}
    return Mixture(sizes, sources, config.training.seed, limit or config.max_epochs, config.training.total_samples)


def text_source(code: str) -> str:
    """Return the name of a language's plain text in a mixture."""
    return f"{code}{_TEXT}"


def by_language(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Return figures of sources summed over the sources of each language."""
    sums: dict[str, Figure] = {}
    for name, value in figures.items():
        code = name.partition("/")[0]
        sums[code] = sums[code] + value if code in sums else value
    return sums


def load_sequences(folder: Path, name: str) -> dict[str, SequenceSet]:
    """Return source -> packed conversations of a part."""
    files = sorted((folder / name).rglob("input_ids_ST.npy"))
    return {file.parent.relative_to(folder / name).as_posix(): SequenceSet.load(file.parent) for file in files}


def load_sources(config: SftStage, conversations: Path, corpus: TokenizedCorpus) -> dict[str, SequenceSet]:
    """Return the packed sequences that a stage draws from: conversations, and of plain text as much as it can need."""
    sources = load_sequences(conversations, config.stage)
    if config.text_share:
        training = config.training
        needed = math.ceil(training.total_samples * config.text_share) * training.sequence_tokens
        sources |= {text_source(code): pack_corpus(corpus.tokens(code, "train")[:needed], corpus.eos_id, training.sequence_tokens)
                    for code in by_language(dict.fromkeys(sources, 0))}
    return sources


def build(context: StageContext) -> Mapping[str, Any]:
    """Write the checkpoint after one stage of fine-tuning; facts: its report, shares, validation nats per answer token, and
    validation bits per byte of plain text."""
    config: SftStage = context.config
    start = Checkpoint.load(context.parents["start"])
    model, corpus = start.load_model(), load_corpus(context)
    sequences = load_sources(config, context.parents["conversations"], corpus)
    training = config.training
    mixture = stage_mixture(config, {name: part.num_sequences for name, part in sequences.items()})
    held_out = load_sequences(context.parents["conversations"], f"validation_{config.stage}")
    trained = train_policy(model, config.policy, sequences, mixture, training, context, held_out)
    shares = trained["training"]["realised_shares"]
    trained["training"] |= {"realised_shares": by_language(shares),
                            "text_share": sum(share for name, share in shares.items() if name.endswith(_TEXT)),
                            "kind_shares": {kind: sum(share for name, share in shares.items() if name.endswith(f"/{kind}"))
                                            for kind in config.kind_shares}}
    nats = answer_nats(model, held_out, context.worker)
    bits = validation_bits(model, corpus, context.worker)
    if context.worker.rank == 0:
        Checkpoint.save(context.folder, model, start.load_tokenizer())
    sea = [nats[code] for code in nats if code in LOW_RESOURCE]
    high = [nats[code] for code in nats if code in HIGH_RESOURCE]
    return {**trained, "epochs": mixture.epochs(training.steps, training.batch_sequences),
            "validation_nats": nats, "validation_nats_mean": sum(nats.values()) / len(nats),
            "validation_nats_worst": max(nats.values()),
            "validation_bits_per_byte": bits, "validation_bits_mean": sum(bits.values()) / len(bits),
            **({"validation_nats_sea": sum(sea) / len(sea)} if sea else {}),
            **({"validation_nats_high_resource": sum(high) / len(high)} if high else {})}


def answer_nats(model: PreTrainedModel, parts: Mapping[str, SequenceSet], worker: Worker) -> dict[str, float]:
    """Return language -> mean nats per answer token, the languages shared out over the ranks."""
    nats_L = torch.zeros(len(parts), dtype=torch.float64, device=worker.device)
    loss = TokenLoss(model)
    with torch.inference_mode():
        for place in range(worker.rank, len(parts), worker.world_size):
            name = list(parts)[place]
            total = 0.0
            for first in range(0, parts[name].num_sequences, 16):
                samples = [(name, row) for row in range(first, min(first + 16, parts[name].num_sequences))]
                total += float(loss(collate(parts, samples, worker.device)))
            nats_L[place] = total / parts[name].num_targets
    nats = worker.sum(nats_L).tolist()
    assert all(map(math.isfinite, nats)), "the training loop refuses a loss that is not finite"
    return dict(zip(parts, nats, strict=True))
