import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sea_ray.errors import DataError
from sea_ray.neurons.sets import NeuronSet, jaccard, overlap_matrix
from sea_ray.neurons.sites import describe

from .conftest import make_model

KEYS = [(site, layer) for site in ("ffn", "q") for layer in range(2)]
members = st.dictionaries(st.sampled_from(KEYS), st.lists(st.integers(0, 12), max_size=8))


def set_of(indices, language="th"):
    return NeuronSet(language=language, indices={key: np.array(found, np.int64) for key, found in indices.items()})


def plain(neurons):
    return {(key, int(index)) for key, found in neurons.indices.items() for index in found}


@given(members, members)
@settings(max_examples=60, deadline=None)
def test_algebra_is_that_of_plain_sets(first, second):
    a, b = set_of(first), set_of(second)
    assert plain(a | b) == plain(a) | plain(b)
    assert plain(a & b) == plain(a) & plain(b)
    assert plain(a - b) == plain(a) - plain(b)
    assert (a | b).count == a.count + b.count - (a & b).count
    assert (a | b) == (b | a)
    assert ((a - b) | (a & b)) == a
    union = plain(a) | plain(b)
    assert jaccard(a, b) == pytest.approx(len(plain(a) & plain(b)) / len(union) if union else 1)


@given(members, members, members)
@settings(max_examples=60, deadline=None)
def test_algebra_obeys_the_laws_of_sets(first, second, third):
    a, b, c = map(set_of, (first, second, third))
    everything = a | b | c
    assert (a | b) | c == a | (b | c)
    assert (a & b) & c == a & (b & c)
    assert a & (b | c) == (a & b) | (a & c)
    assert a | (b & c) == (a | b) & (a | c)
    assert everything - (a | b) == (everything - a) & (everything - b)
    assert everything - (a & b) == (everything - a) | (everything - b)
    assert everything - (everything - a) == a
    assert (a - b) - c == a - (b | c)
    assert a | a == a & a == a
    assert (a - a).count == 0


@given(members, members)
@settings(max_examples=60, deadline=None)
def test_overlap_and_jaccard_are_symmetrical_and_bounded(first, second):
    a, b = set_of(first), set_of(second)
    (own, ab), (ba, _) = overlap_matrix({"a": a, "b": b}).shares
    assert ab == ba
    assert own == (1 if a.count else 0)
    assert 0 <= ab <= 1
    assert jaccard(a, b) == jaccard(b, a)
    if a.count and b.count:
        assert (ab == 1) == ((a - b).count == 0 or (b - a).count == 0)
        assert jaccard(a, b) <= ab
        assert (jaccard(a, b) == 1) == a.same_members(b)


@given(members, members)
@settings(max_examples=30, deadline=None)
def test_the_name_of_a_result_tells_how_it_was_made(first, second):
    th, lo = set_of(first), set_of(second, "lo")
    assert [(th | lo).language, (th & lo).language, (th - lo).language] == ["(th|lo)", "(th&lo)", "(th-lo)"]
    assert (th == set_of(first, "lo")) is False
    assert th.same_members(set_of(first, "lo"))


@given(members)
@settings(max_examples=30, deadline=None)
def test_a_set_survives_json(indices):
    neurons = set_of(indices)
    assert NeuronSet.from_json(neurons.to_json()) == neurons


def test_a_set_survives_the_disk(tmp_path):
    neurons = set_of({("ffn", 1): [3, 1, 3], ("q", 0): []})
    neurons.save(tmp_path)
    loaded = NeuronSet.load(tmp_path)
    assert loaded == neurons
    assert loaded.indices["ffn", 1].tolist() == [1, 3]
    assert loaded.count == 2


def test_sets_are_immutable():
    neurons = set_of({("ffn", 0): [1]})
    with pytest.raises(ValueError, match="read-only"):
        neurons.indices["ffn", 0][0] = 5


def test_values_count_the_parameters_that_the_slices_hold():
    model = make_model()
    architecture = describe(model)
    neurons = set_of({("ffn", 0): [1, 5], ("v", 1): [0, 3, 9], ("q", 2): [31], ("k", 0): [2, 15]})
    parameters = dict(model.named_parameters())
    found = sum(
        parameters[name].index_select(place.dim, torch.tensor(place.index)).numel()
        for name, place in neurons.slices(architecture).items())
    assert neurons.values(architecture) == found
    assert neurons.share(architecture) == found / sum(parameter.numel() for parameter in model.parameters())


def test_value_neurons_own_the_columns_of_every_head_of_their_group():
    architecture = describe(make_model())  # 4 heads of width 8 on 2 kv heads
    assert architecture.context_columns(np.array([3, 9])).tolist() == [3, 11, 17, 25]
    assert architecture.context_owners(np.array([3, 11, 17, 25])).tolist() == [3, 3, 9, 9]


def test_a_set_of_another_model_is_refused():
    with pytest.raises(DataError, match="holds ffn neuron 44 of layer 0, the model has 3 layers of 44"):
        set_of({("ffn", 0): [44]}).slices(describe(make_model()))


def test_overlap_is_one_on_the_diagonal_and_zero_beside_an_empty_set():
    th, lo = set_of({("ffn", 0): [1, 2]}), set_of({("ffn", 0): [2, 3, 4]})
    matrix = overlap_matrix({"th": th, "lo": lo, "my": set_of({})})
    assert matrix.languages == ("th", "lo", "my")
    assert matrix.shares == ((1, 0.5, 0), (0.5, 1, 0), (0, 0, 0))
