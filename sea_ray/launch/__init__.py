"""The edge: the only room that knows Ray, DeepSpeed, Hydra and W&B."""
