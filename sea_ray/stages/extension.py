"""A checkpoint whose tokenizer got new pieces: rows for them, trained on the pieces' languages while all else stays.

Old rows stay because rehearsal alone does not hold them: AdamW makes full steps even of the small gradients that the softmax
sends to every row. In the demo world 150 steps with free old rows cost English 13 % of its bits per byte at the rate of 3e-3
and 8 % at 1e-3, with 15 % each of English and Chinese in the mix; with held ones 0.4 % at 3e-3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from sea_ray.corpus.documents import Documents
from sea_ray.execution import StageContext
from sea_ray.stages.base import check_prediction, held_out_text, pack_languages, train_policy
from sea_ray.stages.configs import ExtendedBaseStage
from sea_ray.stages.corpus import load_corpus
from sea_ray.stages.measure import text_bits, validation_bits
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.config import TrainPolicy
from sea_ray.training.mixture import Mixture
from sea_ray.training.vocabulary import extend_embeddings


def build(context: StageContext) -> Mapping[str, Any]:
    """Write the extended checkpoint.

    Facts are those of any base, and under "extension" the embeddings' rows before and after and validation bits per byte of
    the checkpoint as it came, with its own tokenizer, and with the new rows before training; bits per byte compare across
    tokenizers.
    """
    config: ExtendedBaseStage = context.config
    corpus = load_corpus(context)
    source = Checkpoint.from_hub_or_path(config.checkpoint, config.revision)
    model, own, tokenizer = source.load_model(), source.load_tokenizer(), corpus.load_tokenizer()
    before = text_bits(model, own, Documents.load(context.parents["corpus"] / "documents"), context.worker)
    rows = [model.config.vocab_size]
    spelled = spellings(own, tokenizer)
    extend_embeddings(model, spelled)
    rows.append(model.config.vocab_size)
    untrained = validation_bits(model, corpus, context.worker)
    check_prediction(untrained, corpus, len(tokenizer))

    sequences = pack_languages(corpus, tuple(config.weights), config.training.sequence_tokens)
    mixture = Mixture({code: part.num_sequences for code, part in sequences.items()}, config.weights, config.training.seed, None,
                      config.training.total_samples)
    trained = train_policy(model, TrainPolicy(kind="embeddings"), sequences, mixture, config.training, context,
                           held_out_text(corpus, corpus.languages, config.training), first_row=min(spelled))
    bits = validation_bits(model, corpus, context.worker)
    if context.worker.rank == 0:
        Checkpoint.save(context.folder, model, tokenizer)
    return {**trained, "annealing": None, "parameters": sum(p.numel() for p in model.parameters()),
            "validation_bits_per_byte": bits,
            "extension": {"new_pieces": len(tokenizer) - len(own), "rows_before": rows[0], "rows_after": rows[1],
                          "validation_bits_per_byte": {"before": before, "untrained": untrained}}}


def spellings(own: PreTrainedTokenizerBase, extended: PreTrainedTokenizerBase) -> dict[int, list[int]]:
    """Return id of each new piece -> ids of the tokenizer's own that spelled it."""
    known = own.get_vocab()
    new = {text: number for text, number in extended.get_added_vocab().items() if text not in known}
    return {number: own(text, add_special_tokens=False)["input_ids"] for text, number in new.items()}
