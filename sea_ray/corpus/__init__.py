"""Text: sources, cleaning, splits, tokenizer and the tokenised corpus.

It exports nothing here, so that `sea_ray.corpus.config` and `sea_ray.corpus.sources` are importable without torch.
"""
