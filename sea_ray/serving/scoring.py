"""Log-probabilities from hidden states, and the draw of the next token.

Shape letters: N positions, C positions of a chunk, D d_model, V vocabulary, K likeliest tokens.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from sea_ray.serving.exchange import Request, TokenLogprob

CHUNK_LOGITS = 1 << 22
"""16 MiB of logits at a time."""

GREEDY_TEMPERATURE = 1e-4
"""Logits divided by less would overflow, and the likeliest token is all but certain."""


def score_positions(head: nn.Module, hidden_ND: torch.Tensor, target_N: torch.Tensor, top_k: int
                    ) -> list[TokenLogprob]:
    """Return log softmax(W h)[target] at each position, with the `top_k` likeliest tokens.

    The target's and the likeliest tokens' figures come from the same logits, so they are equal exactly when the target
    is the likeliest.

    Args:
        head: output layer.
        hidden_ND: final hidden states.
        target_N: ids of the tokens that follow.
        top_k: 0 or more.
    """
    scores: list[TokenLogprob] = []
    rows = max(1, CHUNK_LOGITS // head.weight.shape[0])  # type: ignore[index]
    for hidden_CD, target_C in zip(hidden_ND.split(rows), target_N.split(rows), strict=True):
        scores += token_logprobs(head(hidden_CD).float(), target_C, top_k)
    return scores


def token_logprobs(logits_CV: torch.Tensor, target_C: torch.Tensor, top_k: int) -> list[TokenLogprob]:
    """Return the targets' log-probabilities under some logits, with the `top_k` likeliest tokens."""
    total_C1 = logits_CV.logsumexp(-1, keepdim=True)
    own = (logits_CV.gather(1, target_C[:, None]) - total_C1)[:, 0].tolist()
    targets = target_C.tolist()
    if not top_k:
        return [TokenLogprob(token, logprob, ()) for token, logprob in zip(targets, own, strict=True)]
    top_logits_CK, top_ids_CK = logits_CV.topk(min(top_k, logits_CV.shape[1]), dim=-1)
    tops = zip(top_ids_CK.tolist(), (top_logits_CK - total_C1).tolist(), strict=True)
    return [TokenLogprob(token, logprob, tuple(zip(ids, values, strict=True)))
            for token, logprob, (ids, values) in zip(targets, own, tops, strict=True)]


def trimmed(score: TokenLogprob | None, top_k: int) -> TokenLogprob | None:
    """Return a score with no more than the `top_k` likeliest tokens."""
    return score if score is None or len(score.top) <= top_k else replace(score, top=score.top[:top_k])


def draw_token(logits_V: torch.Tensor, request: Request, generator: torch.Generator | None) -> int:
    """Return a next token drawn as a request's temperature and top_p say.

    Nucleus sampling: Holtzman et al., arXiv 1904.09751, section 3.1.
    """
    probability_V = (logits_V / request.temperature).softmax(-1)
    if request.top_p < 1:
        sorted_V, order_V = probability_V.sort(descending=True)
        outside_V = sorted_V.cumsum(-1) - sorted_V >= request.top_p
        probability_V[order_V[outside_V]] = 0
    return int(torch.multinomial(probability_V, 1, generator=generator))
