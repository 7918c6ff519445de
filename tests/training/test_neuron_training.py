"""Neuron training moves the neurons and nothing else."""

import dataclasses

import numpy as np
import pytest
import torch

from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.untouched import tensor_digests
from sea_ray.tracking import NullTracker
from sea_ray.training.compact import compact_neurons
from sea_ray.training.config import TrainConfig
from sea_ray.training.engine import SoloWorker, TorchEngine
from sea_ray.training.neuron_training import train_neurons
from sea_ray.training.sequences import collate
from sea_ray.training.token_loss import TokenLoss

CONFIG = TrainConfig(steps=25, batch_sequences=8, sequence_tokens=16, learning_rate=1e-2)
NEURONS = NeuronSet(language="th", indices={("ffn", 0): np.array([1, 5, 7]), ("ffn", 1): np.array([0, 47]),
                                            ("v", 1): np.array([3])})


@pytest.fixture
def trained(model, sources):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    return before, train_neurons(model, NEURONS, sources["th"], CONFIG, SoloWorker("cpu"), NullTracker())


def test_the_base_is_byte_equal_afterwards_and_trains_again(model, trained):
    before, _ = trained
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name
        assert p.requires_grad


def test_the_pack_moves_only_rows_and_columns_of_the_set(model, trained):
    before, (pack, report, proof) = trained
    with pack.applied(model):
        moved = {name: (p != before[name]) for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert set(moved) == {
        *(f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in (0, 1) for part in ("gate", "up", "down")),
        *(f"model.layers.1.self_attn.{part}" for part in ("v_proj.weight", "v_proj.bias", "o_proj.weight"))}
    assert moved["model.layers.0.mlp.gate_proj.weight"].any(1).nonzero().flatten().tolist() == [1, 5, 7]
    assert moved["model.layers.0.mlp.down_proj.weight"].any(0).nonzero().flatten().tolist() == [1, 5, 7]
    assert proof.holds
    assert not proof.unmoved_inside
    assert report.trained_values == pack.num_values == proof.values_inside


def test_the_trained_model_is_better_and_the_pack_reproduces_its_loss(model, sources, trained):
    _, (pack, report, _) = trained
    assert report.losses[-1] < report.losses[0]
    part = {"th": sources["th"]}
    batch = collate(part, [("th", number) for number in range(sources["th"].num_sequences)], torch.device("cpu"))
    loss = TokenLoss(model)
    with torch.no_grad():
        base = float(loss(batch))
        with pack.applied(model):
            assert float(loss(batch)) < base
        assert float(loss(batch)) == base


def test_weight_decay_keeps_the_change_smaller(model, sources, trained):
    _, (free, _, _) = trained
    decayed, _, proof = train_neurons(model, NEURONS, sources["th"], dataclasses.replace(CONFIG, weight_decay=10.0),
                                      SoloWorker("cpu"), NullTracker())
    assert proof.holds
    for name, (_, values) in decayed.deltas.items():
        assert 0 < np.linalg.norm(values) < 0.8 * np.linalg.norm(free.deltas[name].values), name


def test_without_a_gradient_weight_decay_brings_every_neuron_back_to_the_base(model):
    config = dataclasses.replace(CONFIG, weight_decay=2.0)
    with compact_neurons(model, NEURONS) as compact:
        names = {name: p for name, p in model.named_parameters() if p.requires_grad}
        engine = TorchEngine(model, names, config, torch.device("cpu"))
        for parameter in compact.parameters.values():
            parameter.data.normal_(generator=torch.Generator().manual_seed(0))
        sizes = {name: p.norm().item() for name, p in compact.parameters.items()}
        for _ in range(20):
            for parameter in compact.parameters.values():
                parameter.grad = torch.zeros_like(parameter)
            engine.step(0.1)
        assert any(name.endswith("bias") for name in sizes)
        for name, parameter in compact.parameters.items():
            assert parameter.norm().item() == pytest.approx(0.8**20 * sizes[name], rel=1e-4), name


def test_the_run_says_what_it_trained_and_that_nothing_else_moved(model, sources):
    notes = []

    class Notes(NullTracker):
        def note(self, text):
            notes.append(text)

    dense_values = sum(p.numel() for p in model.parameters())
    _, report, proof = train_neurons(model, NEURONS, sources["th"], CONFIG, SoloWorker("cpu"), Notes())
    assert report.total_values == dense_values
    assert notes == [report.statement(), str(proof)]


def test_two_languages_train_independently_of_their_order(model, sources):
    def run(name):
        chosen = NeuronSet(language=name, indices=NEURONS.indices)
        return train_neurons(model, chosen, sources[name], CONFIG, SoloWorker("cpu"), NullTracker())[0]

    digests = tensor_digests(model)
    first = {name: run(name) for name in ("th", "vi")}
    second = {name: run(name) for name in ("vi", "th")}
    assert tensor_digests(model) == digests
    for name in first:
        for tensor, (_, values) in first[name].deltas.items():
            assert np.array_equal(values, second[name].deltas[tensor].values)
