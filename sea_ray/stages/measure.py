"""Bits per byte on the validation part, the languages shared out over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.artifacts import RECORD, read_json
from sea_ray.corpus.documents import Documents
from sea_ray.corpus.tokenized import TokenizedCorpus, encode_texts, end_of_text_id
from sea_ray.evaluation.bits_per_byte import bits_per_byte
from sea_ray.execution import StageContext
from sea_ray.languages import LOW_RESOURCE
from sea_ray.neurons.pack import LanguagePack
from sea_ray.training.engine import Worker


def validation_bits(model: PreTrainedModel, corpus: TokenizedCorpus, worker: Worker) -> dict[str, float]:
    """Return language -> bits per byte of the validation text; every rank gets all of them."""
    return _shared_out(model, corpus.languages, worker, lambda code: _bits(model, corpus, code))


def text_bits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: Documents, worker: Worker
              ) -> dict[str, float]:
    """Return the same of documents that are cut by another tokenizer than the corpus'."""
    eos_id = end_of_text_id(tokenizer)

    def measure(code: str) -> float:
        texts = list(documents.texts(code, "validation"))
        tokens = np.fromiter(chain.from_iterable(encode_texts(texts, tokenizer, eos_id)), np.uint32)
        return bits_per_byte(model, tokens, sum(len(text.encode()) for text in texts), eos_id)

    return _shared_out(model, documents.languages, worker, measure)


def alone_bits(model: PreTrainedModel, packs: Sequence[LanguagePack], corpus: TokenizedCorpus, worker: Worker
               ) -> dict[str, float]:
    """Return language -> bits per byte of its validation text under its own pack alone; every rank gets all of them."""
    pack_of = {pack.language: pack for pack in packs}

    def measure(code: str) -> float:
        with pack_of[code].applied(model):
            return _bits(model, corpus, code)

    return _shared_out(model, tuple(pack_of), worker, measure)


def _bits(model: PreTrainedModel, corpus: TokenizedCorpus, code: str) -> float:
    return bits_per_byte(model, corpus.tokens(code, "validation"), corpus.num_bytes(code, "validation"), corpus.eos_id)


def _shared_out(model: PreTrainedModel, codes: Sequence[str], worker: Worker, measure: Callable[[str], float]
                ) -> dict[str, float]:
    """Return code -> measurement, the codes shared out over the ranks; the model is moved to their devices."""
    model.to(worker.device)
    values_L = torch.zeros(len(codes), dtype=torch.float64, device=worker.device)
    for place in range(worker.rank, len(codes), worker.world_size):
        values_L[place] = measure(codes[place])
    return dict(zip(codes, worker.sum(values_L).tolist(), strict=True))


def base_bits(context: StageContext) -> dict[str, float]:
    """Return the base's validation bits per byte, measured once when it was made."""
    return read_json(context.parents["base"] / RECORD)["facts"]["validation_bits_per_byte"]


def gains(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the figures that a neuron sweep decides by, from bits per byte before and after.

    Returns:
        ratio_CODE: after / before of each language; english_ratio and chinese_ratio: the same; gain_sea: mean relative fall over
        the SEA languages; worst_sea_ratio: their largest ratio.
    """
    ratio = {code: after[code] / before[code] for code in before}
    sea = [ratio[code] for code in LOW_RESOURCE if code in ratio]
    figures = {"gain_sea": 1 - sum(sea) / len(sea), "worst_sea_ratio": max(sea)}
    for code, name in (("en", "english_ratio"), ("zh", "chinese_ratio")):
        if code in ratio:
            figures[name] = ratio[code]
    return figures | {f"ratio_{code}": value for code, value in ratio.items()}
