"""Greedy decoding of many prompts at once with a key-value cache.

Shape letters: B rows of the batch, T tokens so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

_STOP_CHECK_STEPS = 4
"""Answers are decoded and searched for stop strings only every few steps: decoding text costs more than a step."""


def decode_greedily(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    end_ids: frozenset[int],
    is_done: Callable[[Sequence[int]], bool] | None = None,
) -> list[list[int]]:
    """Return the argmax continuation of each prompt.

    Prompts are padded on the left, so that all rows speak at the same place; masks and positions hide the padding. Rows
    that have ended leave the batch as soon as half of it has.

    Args:
        model: causal language model, in evaluation mode, without gradients.
        prompts: at least one token each.
        max_new_tokens: longest answer.
        end_ids: tokens that end an answer; they are not part of it.
        is_done: answer so far -> whether it may stop (a stop string occurs in it).

    Returns:
        New tokens per prompt.
    """
    width = max(map(len, prompts))
    answers: list[list[int]] = [[] for _ in prompts]
    pads = [width - len(prompt) for prompt in prompts]
    ids_BT = torch.tensor(
        [[*[0] * pad, *prompt] for pad, prompt in zip(pads, prompts, strict=True)], device=model.device
    )
    pad_B1 = torch.tensor(pads, device=model.device)[:, None]
    rows, done, cache = list(range(len(prompts))), [False] * len(prompts), DynamicCache(config=model.config)
    for step in range(max_new_tokens):
        ids_BT = _next_tokens(model, ids_BT, pad_B1, cache)
        check = is_done if is_done and step % _STOP_CHECK_STEPS == _STOP_CHECK_STEPS - 1 else None
        for row, token in zip(rows, ids_BT.flatten().tolist(), strict=True):
            if done[row]:
                continue
            if token in end_ids:
                done[row] = True
            else:
                answers[row].append(token)
                done[row] = bool(check and check(answers[row]))
        keep = [place for place, row in enumerate(rows) if not done[row]]
        if not keep:
            break
        if len(keep) <= len(rows) // 2:
            keep_B = torch.tensor(keep, device=model.device)
            cache.batch_select_indices(keep_B)
            ids_BT, pad_B1, rows = ids_BT[keep_B], pad_B1[keep_B], [rows[place] for place in keep]
    return answers


def _next_tokens(
    model: PreTrainedModel, ids_BT: torch.Tensor, pad_B1: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Return the likeliest next token of each row, [B, 1], and extend the cache by the given ones."""
    seen = cache.get_seq_length()
    place_T = torch.arange(seen + ids_BT.shape[1], device=ids_BT.device)
    logits_B1V = model(
        input_ids=ids_BT,
        attention_mask=(place_T >= pad_B1).long(),
        position_ids=(place_T[seen:] - pad_B1).clamp_min(0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    return logits_B1V.argmax(-1)
