"""A training so small that it takes seconds under any engine, with a record of the samples that it drew."""

import numpy as np

from sea_ray.training.config import ModelConfig, TrainConfig
from sea_ray.training.mixture import Mixture
from sea_ray.training.model import new_model
from sea_ray.training.sequences import SequenceSet, pack_corpus

CONFIG = TrainConfig(steps=20, batch_sequences=12, sequence_tokens=16, learning_rate=3e-3, weight_decay=0.1, micro_batch=3)
VOCAB = 4000  # 128,000 embedding values: above the size that ZeRO-3 leaves whole


class LostError(Exception):
    pass


class Recorded(Mixture):
    """Keeps which samples were drawn; is lost at a step."""

    def __init__(self, *arguments, lost=None):
        super().__init__(*arguments)
        self.drawn, self.lost = {}, lost

    def batch(self, step, batch_size):
        if step == self.lost:
            raise LostError
        self.drawn[step] = super().batch(step, batch_size)
        return self.drawn[step]


def toy(lost=None, config=CONFIG, mixture=Recorded):
    """Return a model, answers of very uneven length among what is only read, and their mixture."""
    model = new_model(ModelConfig(d_model=32, num_layers=2, d_mlp=48, max_position=64), VOCAB, seed=3, eos_id=0)
    generator = np.random.default_rng(0)
    sources = {}
    for name in ("th", "vi"):
        packed = pack_corpus(generator.integers(0, 60, 400), 0, 16)
        share_S1 = generator.random((packed.num_sequences, 1))
        answers = packed.loss_mask_ST & (generator.random(packed.loss_mask_ST.shape) < share_S1)
        sources[name] = SequenceSet(input_ids_ST=packed.input_ids_ST, segment_ids_ST=packed.segment_ids_ST, loss_mask_ST=answers)
    sizes = {name: part.num_sequences for name, part in sources.items()}
    return model, sources, mixture(sizes, {"th": 0.3, "vi": 0.7}, 0, None, config.total_samples, lost=lost)
