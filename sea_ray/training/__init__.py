"""Everything that moves weights: data order, loss, engines, the loop, neuron training, checkpoints.

It exports nothing here, so that `sea_ray.training.config` is importable without torch.
"""
