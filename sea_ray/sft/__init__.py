"""Fine-tuning data: conversations of two stages, rendered by the chat template and packed per language.

It exports nothing here, so that `sea_ray.sft.config` is importable without torch.
"""
