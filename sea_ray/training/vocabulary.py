"""Rows of the embeddings for new pieces of a vocabulary.

Shape letters: V rows (vocabulary, padding included), D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedModel


@torch.no_grad()
def extend_embeddings(model: PreTrainedModel, spelled: Mapping[int, Sequence[int]]) -> None:
    """Give new ids the mean of the rows of the old ids that spelled them, in the input and the output embeddings.

    A mean's logit is the mean of its parts' logits, so that by Jensen's inequality no new piece starts likelier than its
    parts are on average: other text loses little to it. Rows that pad the vocabulary (Qwen2 has 151,936 for 151,646 ids)
    are used first; beyond them the matrices grow to the last id. No old row changes.

    Args:
        model: changed in place; its embeddings may be tied or not.
        spelled: new id -> old ids of the same text; the new ids are beyond all old ones.
    """
    num_rows = model.get_input_embeddings().weight.shape[0]
    if max(spelled) >= num_rows:
        model.resize_token_embeddings(max(spelled) + 1, mean_resizing=False)
    for matrix in (model.get_input_embeddings(), model.get_output_embeddings()):  # tied ones twice, which changes nothing
        for new, old in spelled.items():
            matrix.weight[new] = matrix.weight[list(old)].float().mean(0)
