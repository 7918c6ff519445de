"""Figures about a model, each with n and interval: bits per byte, exams, arithmetic, translation, refusal, safety.

It exports nothing here, so that `sea_ray.evaluation.config` is importable without torch.
"""
