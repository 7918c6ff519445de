"""Bits per byte on the validation part, the languages shared out over the ranks."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from sea_ray.artifacts import RECORD, read_json
from sea_ray.corpus.tokenized import TokenizedCorpus, end_of_text_id
from sea_ray.evaluation.bits_per_byte import bits_per_byte
from sea_ray.execution import StageContext
from sea_ray.languages import SEA_LANGUAGES
from sea_ray.training.engine import Worker


def validation_bits(model: PreTrainedModel, corpus: TokenizedCorpus, worker: Worker,
                    languages: tuple[str, ...] | None = None) -> dict[str, float]:
    """Return language -> bits per byte of the validation text; every rank gets all of them."""
    chosen = languages or corpus.languages
    eos_id = end_of_text_id(corpus.load_tokenizer())
    bits_L = torch.zeros(len(chosen), dtype=torch.float64, device=worker.device)
    for place in range(worker.rank, len(chosen), worker.world_size):
        code = chosen[place]
        bits_L[place] = bits_per_byte(model, corpus.tokens(code, "validation"), corpus.num_bytes(code, "validation"), eos_id)
    return dict(zip(chosen, worker.sum(bits_L).tolist(), strict=True))


def base_bits(context: StageContext) -> dict[str, float]:
    """Return the base's validation bits per byte, measured once when it was made."""
    return read_json(context.parents["base"] / RECORD)["facts"]["validation_bits_per_byte"]


def gains(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the figures that a neuron sweep decides by, from bits per byte before and after.

    Returns:
        gain_sea: mean relative fall over the SEA languages; worst_sea_ratio: largest after / before among them;
        english_ratio and chinese_ratio: after / before.
    """
    ratio = {code: after[code] / before[code] for code in before}
    sea = [ratio[code] for code in SEA_LANGUAGES if code in ratio]
    figures = {"gain_sea": 1 - sum(sea) / len(sea), "worst_sea_ratio": max(sea)}
    for code, name in (("en", "english_ratio"), ("zh", "chinese_ratio")):
        if code in ratio:
            figures[name] = ratio[code]
    return figures
