import copy

import numpy as np
import pytest
import torch
from families import FAMILIES, RAGGED, batch_of, make_model, neurons_of

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.pack import LanguagePack
from sea_ray.neurons.sites import describe
from sea_ray.neurons.untouched import prove_untouched, snapshot, tensor_digests
from sea_ray.training.compact import compact_neurons


def backward(model, batch, scale=1.0):
    loss = model(input_ids=batch, labels=batch, use_cache=False).loss
    (loss * scale).backward()
    return loss.item()


def shift(compact, size=0.05, seed=1):
    """Move the compact parameters away from the base, so that base and substituted weights differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in compact.parameters.values():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def substituted(model, compact):
    """Return a dense copy with the changes added: what the compact model must be indistinguishable from."""
    dense = copy.deepcopy(model)
    parameters = dict(dense.named_parameters())
    with torch.no_grad():
        for name, place in compact.slices.items():
            parameters[name].index_add_(place.dim, torch.tensor(place.index), compact.parameters[name].detach())
    return dense


def train(compact, model, steps=20, lr=1e-2, weight_decay=0.0):
    optimiser = torch.optim.AdamW(compact.parameters.values(), lr=lr, weight_decay=weight_decay)
    losses = []
    for step in range(steps):
        losses.append(backward(model, batch_of(step % 4)))
        optimiser.step()
        optimiser.zero_grad()
    return losses


def assert_dense_gradients(model, neurons, run):
    base = copy.deepcopy(model)
    with compact_neurons(model, neurons) as compact:
        shift(compact)
        dense = substituted(base, compact)
        assert run(model) == pytest.approx(run(dense), abs=1e-12)
        expected = {name: parameter.grad for name, parameter in dense.named_parameters()}
        for name, place in compact.slices.items():
            rows = expected[name].index_select(place.dim, torch.tensor(place.index))
            torch.testing.assert_close(compact.parameters[name].grad, rows, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("indices", [
    RAGGED, {("ffn", 1): range(44)}, {("v", 1): range(16)}, {("q", 2): [31]}, {("k", 0): [0, 15]}])
def test_compact_gradients_are_the_rows_of_the_dense_gradient(indices, family):
    assert_dense_gradients(make_model(torch.float64, family=family), neurons_of(indices),
                           lambda model: backward(model, batch_of()))


@pytest.mark.parametrize(("family", "biases"), [("qwen2", 5), ("qwen3", 0), ("llama", 0)])
def test_a_row_trains_with_its_bias_element_where_the_family_has_one(family, biases):
    with compact_neurons(make_model(family=family), neurons_of()) as compact:
        assert sum(name.endswith("bias") for name in compact.parameters) == biases


@pytest.mark.parametrize("family", FAMILIES)
def test_compact_gradients_are_right_under_accumulation(family):
    def two_halves(model):
        return backward(model, batch_of(0), 0.5) + backward(model, batch_of(1), 0.5)

    assert_dense_gradients(make_model(torch.float64, family=family), neurons_of(), two_halves)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reentrant", [False, True])
def test_compact_gradients_are_right_under_activation_checkpointing(reentrant, family):
    def run(model):
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        return backward(model, batch_of())

    assert_dense_gradients(make_model(torch.float64, family=family), neurons_of(), run)


@pytest.mark.parametrize("tied", [True, False])
def test_compact_gradients_are_right_with_and_without_tied_embeddings(tied):
    assert_dense_gradients(make_model(torch.float64, tied=tied), neurons_of(),
                           lambda model: backward(model, batch_of()))


def test_a_compiled_model_trains_the_same_neurons_in_one_graph():
    losses = {}
    for compiled in (False, True):
        model = make_model(torch.float64)
        with compact_neurons(model, neurons_of()) as compact:
            run = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
            losses[compiled] = train(compact, run, steps=3)
    assert losses[True] == pytest.approx(losses[False], abs=1e-12)
    assert losses[True][2] != losses[True][0]


def test_only_the_compact_parameters_train_and_only_they_get_a_gradient():
    model = make_model()
    with compact_neurons(model, neurons_of()) as compact:
        backward(model, batch_of())
        training = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert all(".compact_" in name for name in training)
        assert {id(p) for p in training.values()} == {id(p) for p in compact.parameters.values()}
        assert sum(p.numel() for p in training.values()) == compact.num_values == neurons_of().values(describe(model))
        assert all(p.grad is None for name, p in model.named_parameters() if name not in training)


def test_nothing_below_the_lowest_selected_layer_is_back_propagated():
    model = make_model()
    seen = {}
    for number, layer in enumerate(model.model.layers):
        layer.register_forward_hook(lambda _m, _i, out, number=number: seen.update({number: out.requires_grad}))
    with compact_neurons(model, neurons_of({("k", 1): [3], ("ffn", 2): [4]})):
        backward(model, batch_of())
    assert seen == {0: False, 1: True, 2: True}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_weights_are_byte_equal_after_training(dtype):
    model = make_model(dtype)
    model.lm_head.weight.requires_grad_(False)
    before, flags = tensor_digests(model), [p.requires_grad for p in model.parameters()]
    with compact_neurons(model, neurons_of()) as compact:
        losses = train(compact, model)
        assert losses[-1] < losses[0] - 0.05
    assert tensor_digests(model) == before
    assert [p.requires_grad for p in model.parameters()] == flags
    assert "forward" not in model.model.layers[0].mlp.gate_proj.__dict__


def test_while_training_nothing_outside_the_set_moves():
    model, neurons = make_model(), neurons_of()
    slices = neurons.slices(describe(model))
    before = snapshot(model, slices)
    with compact_neurons(model, neurons) as compact:
        train(compact, model)
        deltas = compact.deltas()
    pack = LanguagePack(language="th", deltas=deltas, base_digests=tensor_digests(model))
    with pack.applied(model):
        proof = prove_untouched(before, snapshot(model, slices))
    assert proof.holds
    assert not proof.unmoved_inside
    assert proof.values_inside == neurons.values(describe(model))
    assert proof.values_inside + proof.values_outside == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_pack_of_a_training_gives_exactly_the_trained_model(dtype):
    model = make_model(dtype)
    with compact_neurons(model, neurons_of()) as compact:
        train(compact, model, steps=5)
        with torch.no_grad():
            trained = model(input_ids=batch_of()).logits
        dense = {name: p.clone() for name, p in model.named_parameters() if "compact" not in name}
    pack = LanguagePack(language="th", deltas=compact.deltas(), base_digests=tensor_digests(model))
    with pack.applied(model), torch.no_grad():
        assert torch.equal(model(input_ids=batch_of()).logits, trained)
        assert all(torch.equal(p, dense[name]) for name, p in model.named_parameters())
    assert pack.neurons == neurons_of()


def test_steps_below_the_resolution_of_bfloat16_are_kept():
    model = make_model(torch.bfloat16)
    with compact_neurons(model, neurons_of()) as compact:
        train(compact, model, steps=3, lr=1e-6)
        assert {p.dtype for p in compact.parameters.values()} == {torch.float32}
    largest = max(np.abs(delta.values).max() for delta in compact.deltas().values())
    assert 1e-6 < largest < 1e-5


def test_weight_decay_pulls_towards_the_base_not_to_zero():
    model = make_model()
    with compact_neurons(model, neurons_of()) as compact:
        shift(compact)
        start = sum(p.norm().item() for p in compact.parameters.values())
        optimiser = torch.optim.SGD(compact.parameters.values(), lr=1.0, weight_decay=0.5)
        for parameter in compact.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
        assert sum(p.norm().item() for p in compact.parameters.values()) == pytest.approx(start / 2)


def test_autocast_gives_the_gradient_of_an_autocast_dense_model():
    model = make_model()
    base = copy.deepcopy(model)

    def run(any_model):
        with torch.autocast("cpu", torch.bfloat16):
            loss = any_model(input_ids=batch_of(), labels=batch_of(), use_cache=False).loss
        loss.backward()

    with compact_neurons(model, neurons_of()) as compact:
        shift(compact)
        dense = substituted(base, compact)
        run(model)
        run(dense)
        expected = dict(dense.named_parameters())
        for name, place in compact.slices.items():
            rows = expected[name].grad.index_select(place.dim, torch.tensor(place.index))
            assert (compact.parameters[name].grad - rows).norm() < 0.03 * rows.norm(), name


def test_the_model_is_restored_after_an_error():
    model = make_model()
    before = tensor_digests(model)

    def fail():
        with compact_neurons(model, neurons_of()) as compact:
            shift(compact)
            backward(model, batch_of())
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        fail()
    assert tensor_digests(model) == before
    assert all(p.requires_grad for p in model.parameters())


def test_an_empty_set_is_refused():
    with pytest.raises(ConfigError, match="'th' holds no neuron"), compact_neurons(make_model(), neurons_of({})):
        pass


def test_a_second_block_inside_the_first_is_refused():
    model = make_model()
    with (compact_neurons(model, neurons_of()), pytest.raises(ConfigError, match="already trains compact neurons"),
          compact_neurons(model, neurons_of())):
        pass


def test_a_set_of_a_larger_model_is_refused():
    with pytest.raises(DataError, match="layer 7"), compact_neurons(make_model(), neurons_of({("ffn", 7): [1]})):
        pass
