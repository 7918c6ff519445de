"""Language-specific neurons: where they are, how much they matter, whose they are, and packs of their new values.

It exports nothing here, so that `sea_ray.neurons.config` is importable without torch.
"""
