"""A checkpoint behind an OpenAI-compatible door: engine, protocol and application; it knows nothing of Ray.

It exports nothing here, so that `sea_ray.serving.config` is importable without torch.
"""
