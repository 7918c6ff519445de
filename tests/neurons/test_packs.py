import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.diff import diff_models
from sea_ray.neurons.merge import merge_packs
from sea_ray.neurons.pack import LanguagePack, SliceDelta
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.sites import describe
from sea_ray.neurons.untouched import prove_untouched, snapshot, tensor_digests

from .conftest import make_model

BASE = make_model()
SHAPE = describe(BASE)
DIGESTS = tensor_digests(BASE)


def pack_of(language, indices, seed=0, digests=DIGESTS):
    """Return a pack with random deltas on some neurons of the toy model."""
    generator = np.random.default_rng(seed)
    neurons = NeuronSet(language=language, indices={key: np.array(found, np.int64) for key, found in indices.items()})
    parameters = dict(BASE.named_parameters())
    deltas = {}
    for name, place in neurons.slices(SHAPE).items():
        shape = parameters[name].index_select(place.dim, torch.tensor(place.index)).shape
        deltas[name] = SliceDelta(place, generator.normal(0, 0.01, shape).astype(np.float32))
    return LanguagePack(language=language, deltas=deltas, base_digests=digests, training={"steps": 7})


def dense(pack):
    """Return a pack's deltas as whole tensors."""
    found = {name: np.zeros(tuple(p.shape)) for name, p in BASE.named_parameters()}
    for name, (place, values) in pack.deltas.items():
        found[name][place.index if place.dim == 0 else (slice(None), place.index)] = values
    return found


TH = pack_of("th", {("ffn", 0): [1, 5], ("v", 1): [3, 9], ("q", 2): [31], ("k", 0): [2]}, seed=1)
LO = pack_of("lo", {("ffn", 0): [5, 8], ("v", 1): [9], ("ffn", 2): [0]}, seed=2)
VI = pack_of("vi", {("ffn", 1): [7]}, seed=3)


def test_a_pack_survives_the_disk_bit_for_bit(tmp_path):
    TH.save(tmp_path)
    loaded = LanguagePack.load(tmp_path)
    assert (loaded.language, loaded.training, loaded.base_digest) == ("th", {"steps": 7}, TH.base_digest)
    assert loaded.neurons == TH.neurons
    for name, (place, values) in TH.deltas.items():
        np.testing.assert_array_equal(loaded.deltas[name].values, values)
        assert (loaded.deltas[name].place.site, loaded.deltas[name].place.dim) == (place.site, place.dim)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_remove_restores_the_base_bit_for_bit(dtype):
    model = copy.deepcopy(BASE).to(dtype)
    before = tensor_digests(model)
    slices = TH.neurons.slices(SHAPE)
    still = snapshot(model, slices)
    pack = pack_of("th", TH.neurons.indices, seed=1, digests=before)
    handle = pack.apply(model)
    proof = prove_untouched(still, snapshot(model, slices))
    assert proof.holds
    assert not proof.unmoved_inside
    handle.remove()
    handle.remove()
    assert tensor_digests(model) == before


def test_apply_adds_the_deltas():
    model = copy.deepcopy(BASE)
    with TH.applied(model):
        for name, parameter in model.named_parameters():
            expected = dict(BASE.named_parameters())[name].detach().numpy() + dense(TH)[name].astype(np.float32)
            np.testing.assert_array_equal(parameter.detach().numpy(), expected)


@pytest.mark.parametrize("name", ["model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight"])
def test_another_base_is_refused_and_the_tensor_is_named(name):
    other = copy.deepcopy(BASE)
    with torch.no_grad():
        dict(other.named_parameters())[name][0, 0] += 1e-3
    before = tensor_digests(other)
    with pytest.raises(DataError, match=f"'th' belongs to another base: tensor {name} has digest {before[name][:12]}"):
        TH.apply(other)
    assert tensor_digests(other) == before


def test_a_model_that_already_carries_a_pack_is_another_base():
    model = copy.deepcopy(BASE)
    with TH.applied(model), pytest.raises(DataError, match="'vi' belongs to another base"):
        VI.apply(model)


def descendant(dtype=torch.float32):
    """Return the base after something like fine-tuning: most tensors moved, not all."""
    model = copy.deepcopy(BASE).to(dtype)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_graft_lays_the_deltas_on_a_descendant_and_is_marked_approximate(dtype):
    model = descendant(dtype)
    before, values = tensor_digests(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError, match="graft it on a descendant of that base"):
        TH.apply(model)
    handle = TH.graft(model)
    assert handle.approximate
    assert handle.differing_tensors == sum(before[name] != DIGESTS[name] for name in DIGESTS)
    for name, parameter in model.named_parameters():
        expected = (values[name].float() + torch.from_numpy(dense(TH)[name].astype(np.float32))).to(dtype)
        assert torch.equal(parameter, expected)
    handle.remove()
    assert tensor_digests(model) == before


def test_a_graft_on_the_base_itself_is_exact():
    model = copy.deepcopy(BASE)
    grafted = TH.graft(model)
    assert (grafted.approximate, grafted.differing_tensors) == (False, 0)
    digests = tensor_digests(model)
    grafted.remove()
    applied = TH.apply(model)
    assert not applied.approximate
    assert tensor_digests(model) == digests


@pytest.mark.parametrize(("changes", "message"), [
    ({"num_hidden_layers": 2}, r"row 31 \(of 32 values\) of model\.layers\.2\.self_attn\.q_proj\.weight, the model has no "),
    ({"hidden_size": 48, "num_attention_heads": 6},
     r"row 5 \(of 32 values\) of model\.layers\.0\.mlp\.gate_proj\.weight, the model has shape \(44, 48\)"),
    ({"intermediate_size": 5},
     r"row 5 \(of 32 values\) of model\.layers\.0\.mlp\.gate_proj\.weight, the model has shape \(5, 32\)"),
])
def test_a_graft_that_does_not_fit_names_the_tensor_and_changes_nothing(changes, message):
    config = copy.deepcopy(BASE.config)
    config.update(changes)
    other = type(BASE)(config)
    before = tensor_digests(other)
    with pytest.raises(DataError, match=r"'th' does not fit: it changes " + message):
        TH.graft(other)
    assert tensor_digests(other) == before


def test_grafts_are_removed_last_first():
    model = descendant()
    before = tensor_digests(model)
    handles = [pack.graft(model) for pack in (TH, LO)]  # both change ffn 5 of layer 0
    for handle in reversed(handles):
        handle.remove()
    assert tensor_digests(model) == before


def test_the_difference_of_two_models_is_the_pack_between_them():
    trained = copy.deepcopy(BASE)
    TH.apply(trained)
    found = diff_models(BASE, trained, "th")
    assert found.neurons == TH.neurons
    assert found.base_digests == TH.base_digests
    for name, (_, values) in TH.deltas.items():
        np.testing.assert_allclose(found.deltas[name].values, values, atol=1e-6)


def test_a_change_of_one_column_belongs_to_the_whole_neuron():
    trained = copy.deepcopy(BASE)
    with torch.no_grad():
        trained.model.layers[1].self_attn.o_proj.weight[3, 17] += 1  # head 2, dim 1: read by query heads of v neuron 9
        trained.model.layers[0].self_attn.k_proj.bias[4] += 1
    found = diff_models(BASE, trained, "th").neurons
    assert {key: members.tolist() for key, members in found.indices.items()} == {("k", 0): [4], ("v", 1): [9]}


def test_models_of_different_shape_have_no_difference():
    with pytest.raises(DataError, match="differ in the names or shapes of their tensors"):
        diff_models(BASE, make_model(num_layers=2), "th")


def test_a_difference_that_no_neuron_owns_is_refused():
    trained = copy.deepcopy(BASE)
    with pytest.raises(DataError, match="nothing to pack"):
        diff_models(BASE, trained, "th")
    with torch.no_grad():
        trained.model.norm.weight[0] += 1
    with pytest.raises(DataError, match=r"model\.norm\.weight differs and belongs to no neuron"):
        diff_models(BASE, trained, "th")


def test_proof_names_what_changed_outside_and_what_stayed_inside():
    model = copy.deepcopy(BASE)
    slices = VI.neurons.slices(SHAPE)
    before = snapshot(model, slices)
    with torch.no_grad():
        model.model.layers[1].mlp.gate_proj.weight[8, 0] += 1
        model.model.layers[1].mlp.up_proj.weight[7, 0] += 1
    proof = prove_untouched(before, snapshot(model, slices))
    assert not proof.holds
    assert proof.changed_outside == ("model.layers.1.mlp.gate_proj.weight",)
    assert proof.unmoved_inside == ("model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.down_proj.weight")
    assert "NOT untouched: 1 of" in str(proof)


def test_merged_deltas_are_the_sum_in_any_order():
    merged, report = merge_packs([TH, LO, VI])
    backwards, _ = merge_packs([VI, LO, TH])
    for name, found in dense(merged).items():
        np.testing.assert_allclose(found, dense(TH)[name] + dense(LO)[name] + dense(VI)[name], atol=1e-9)
        np.testing.assert_array_equal(found, dense(backwards)[name])
    assert merged.language == "th+lo+vi"
    assert merged.neurons.count == report.merged_neurons == 9
    assert report.neurons == (6, 4, 1)
    assert report.contested_neurons == 2
    assert report.shared == ((6, 2, 0), (2, 4, 0), (0, 0, 1))


def test_mean_divides_only_where_packs_overlap():
    merged, _ = merge_packs([TH, LO], "mean")
    place, values = merged.deltas["model.layers.0.mlp.up_proj.weight"]
    assert place.index.tolist() == [1, 5, 8]
    th, lo = (dense(pack)[place.tensor] for pack in (TH, LO))
    np.testing.assert_allclose(values, [th[1], (th[5] + lo[5]) / 2, lo[8]], atol=1e-9)


def test_strongest_takes_whole_neurons():
    strong = LanguagePack(language="lo", base_digests=LO.base_digests, deltas={
        name: SliceDelta(place, 10 * values) for name, (place, values) in LO.deltas.items()})
    merged, _ = merge_packs([TH, strong], "strongest")
    for tensor, rows in (("mlp.gate_proj", 5), ("mlp.up_proj", 5), ("mlp.down_proj", (slice(None), 5))):
        name = f"model.layers.0.{tensor}.weight"
        np.testing.assert_allclose(dense(merged)[name][rows], dense(strong)[name][rows], atol=1e-9)
    columns = (slice(None), [17, 25])  # o columns of v neuron 9
    name = "model.layers.1.self_attn.o_proj.weight"
    np.testing.assert_allclose(dense(merged)[name][columns], dense(strong)[name][columns], atol=1e-9)


def test_cosine_says_whether_packs_agree_on_what_they_share():
    same = LanguagePack(language="lo", base_digests=TH.base_digests, deltas=TH.deltas)
    opposed = LanguagePack(language="my", base_digests=TH.base_digests, deltas={
        name: SliceDelta(place, -2 * values) for name, (place, values) in TH.deltas.items()})
    _, report = merge_packs([TH, same, opposed, VI])
    assert report.cosine[0][1] == pytest.approx(1)
    assert report.cosine[0][2] == pytest.approx(-1)
    assert report.cosine[0][3] is None


def test_a_merged_pack_applies_and_removes_like_any_other(tmp_path):
    merged, _ = merge_packs([TH, LO, VI])
    merged.save(tmp_path)
    model = copy.deepcopy(BASE)
    handle = LanguagePack.load(tmp_path).apply(model)
    assert tensor_digests(model) != DIGESTS
    handle.remove()
    assert tensor_digests(model) == DIGESTS


@pytest.mark.parametrize("rule", ["add", "mean", "strongest"])
def test_every_rule_reports_the_same_overlap(rule):
    merged, report = merge_packs([TH, LO, VI], rule)
    assert (report.rule, report.contested_neurons, report.merged_neurons) == (rule, 2, 9)
    assert report.shared == ((6, 2, 0), (2, 4, 0), (0, 0, 1))
    assert merged.training["merge_rule"] == rule
    assert merged.training["packs"]["lo"] == {"steps": 7}


@pytest.mark.parametrize("rule", ["add", "mean", "strongest", "refuse"])
def test_merging_one_pack_is_that_pack(rule):
    merged, report = merge_packs([TH], rule)
    for name, found in dense(merged).items():
        np.testing.assert_array_equal(found, dense(TH)[name])
    assert (merged.language, report.contested_neurons) == ("th", 0)


def test_nothing_does_not_merge():
    with pytest.raises(DataError, match="no packs to merge"):
        merge_packs([])


def test_overlap_is_refused_when_asked_and_disjoint_packs_pass():
    with pytest.raises(ConfigError, match="2 neurons are changed by more than one of 2 packs"):
        merge_packs([TH, LO], "refuse")
    merged, report = merge_packs([TH, VI], "refuse")
    assert (merged.neurons.count, report.contested_neurons) == (7, 0)


def test_packs_of_different_bases_do_not_merge():
    other = pack_of("lo", {("ffn", 0): [1]}, digests={**DIGESTS, "model.norm.weight": "0" * 64})
    with pytest.raises(DataError, match=r"'th' and 'lo' have different bases: 1 tensors differ, first model\.norm\."):
        merge_packs([TH, other])


few_neurons = st.lists(st.integers(0, 15), min_size=1, max_size=6)


@given(st.lists(few_neurons, min_size=1, max_size=4), st.sampled_from(["add", "mean"]))
@settings(max_examples=25, deadline=None)
def test_merging_is_elementwise_over_whatever_sets(sets, rule):
    packs = [pack_of(f"l{i}", {("v", 0): found, ("k", 1): found[:1]}, seed=i) for i, found in enumerate(sets)]
    merged, report = merge_packs(packs, rule)
    everything = [set(found) for found in sets]
    firsts = {found[0] for found in sets}
    assert report.merged_neurons == len(set().union(*everything)) + len(firsts)
    name = "model.layers.0.self_attn.v_proj.weight"
    total = sum(dense(pack)[name] for pack in packs)
    if rule == "mean":
        holders = np.array([max(1, sum(row in found for found in everything)) for row in range(16)])
        total = total / holders[:, None]
    np.testing.assert_allclose(dense(merged)[name], total, atol=1e-9)
