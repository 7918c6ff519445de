"""A policy trains what it names, and leaves a plain model."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from sea_ray.errors import ConfigError
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.untouched import tensor_digests
from sea_ray.tracking import NullTracker
from sea_ray.training.config import PROJECTIONS, ExecutionConfig, TrainConfig, TrainPolicy, WholeExecution
from sea_ray.training.engine import SoloWorker, execution_for
from sea_ray.training.loop import train
from sea_ray.training.mixture import Mixture
from sea_ray.training.model import new_model
from sea_ray.training.policy import trainable

CONFIG = TrainConfig(steps=6, batch_sequences=4, sequence_tokens=16, learning_rate=1e-2)
NEURONS = NeuronSet(language="th", indices={("ffn", 0): np.array([1, 5]), ("v", 1): np.array([3])})
LORA = TrainPolicy(kind="lora", lora_rank=4, lora_alpha=8.0)
POLICIES = [TrainPolicy(kind=kind) for kind in ("all", "neurons", "ffn_only", "embeddings")] + [LORA]


def neurons_for(policy):
    return NEURONS if policy.kind == "neurons" else None


def run(model, sources, policy):
    sizes = {name: source.num_sequences for name, source in sources.items()}
    mixture = Mixture(sizes, dict.fromkeys(sizes, 1.0), CONFIG.seed, None, CONFIG.total_samples)
    with trainable(model, policy, neurons_for(policy)) as trained:
        report = train(model, sources, mixture, CONFIG, SoloWorker("cpu"), NullTracker())
    return trained, report


def named(policy, name):
    """Return whether a policy names a dense tensor, said in another way than the code does."""
    return {"all": True, "neurons": False, "ffn_only": ".mlp." in name,
            "embeddings": "embed_tokens" in name or "lm_head" in name,
            "lora": "_proj.weight" in name}[policy.kind]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request, shape):
    return new_model(dataclasses.replace(shape, tie_embeddings=request.param), 61, seed=3, eos_id=0).eval()


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_each_policy_moves_what_it_names_and_nothing_else(model, sources, policy):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained, report = run(model, sources, policy)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if named(policy, name)} == trained.free
    assert report.losses[-1] < report.losses[0]
    assert report.trained_values == trained.num_values
    assert report.total_values == sum(p.numel() for p in before.values())
    proof = trained.prove_untouched(model)
    assert proof.holds
    assert bool(proof.unmoved_inside) == (policy.kind == "neurons")  # whose base is back


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_each_policy_leaves_names_modules_and_flags_as_they_were(model, sources, policy):
    def plain():
        return ([(name, id(module), type(module)) for name, module in model.named_modules()],
                [(name, id(p), p.requires_grad) for name, p in model.named_parameters()], list(model.state_dict()),
                sorted(vars(model)), [sorted(vars(module)) for module in model.modules()])

    model.model.norm.weight.requires_grad_(False)
    before = plain()
    run(model, sources, policy)
    assert plain() == before


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_after_an_error_the_model_is_plain_and_untrained_parameters_are_the_base(model, policy):
    names, before = [name for name, _ in model.named_modules()], tensor_digests(model)

    def fail():
        with trainable(model, policy, neurons_for(policy)):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(0.1 * p.requires_grad)
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        fail()
    assert [name for name, _ in model.named_modules()] == names
    assert all(p.requires_grad for p in model.parameters())
    if policy.kind in ("lora", "neurons"):
        assert tensor_digests(model) == before


def test_the_merged_weights_give_the_adapted_models_logits(model, sources):
    model.double()
    ids = torch.arange(1, 41).view(2, 20)
    base = copy.deepcopy(model)
    with trainable(model, LORA) as trained:
        with torch.no_grad():
            for name in trained.names:
                model.get_parameter(name).normal_(std=0.1)
        adapted = model(input_ids=ids).logits.detach()
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, adapted, rtol=0, atol=1e-10)
        assert (base(input_ids=ids).logits - adapted).abs().max() > 1e-2


def test_an_adapter_has_the_values_of_its_rank_and_float32_beside_a_bfloat16_base(model):
    model.bfloat16()
    with trainable(model, LORA) as trained:
        assert {model.get_parameter(name).dtype for name in trained.names} == {torch.float32}
        widths = [sum(module.weight.shape) for name, module in model.named_modules()
                  if name.endswith("_proj.base_layer")]
        assert trained.num_values == LORA.lora_rank * sum(widths)
        assert len(widths) == 2 * len(PROJECTIONS)


def test_the_same_seed_starts_the_same_adapters_and_draws_from_no_other_randomness(model):
    def adapters(seed):
        with trainable(model, dataclasses.replace(LORA, lora_seed=seed)) as trained:
            return torch.cat([model.get_parameter(name).detach().flatten() for name in trained.names])

    state = torch.random.get_rng_state()
    first = adapters(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(adapters(1), first)
    assert not torch.equal(adapters(2), first)


def test_only_the_named_projections_get_an_adapter(model):
    with trainable(model, dataclasses.replace(LORA, lora_modules=("q_proj", "v_proj"))) as trained:
        assert {name.split(".")[-4] for name in trained.names} == {"q_proj", "v_proj"}
    assert {name.split(".")[-2] for name in trained.free} == {"q_proj", "v_proj"}


def test_a_tensor_that_moved_on_the_side_is_found_out(model):
    with trainable(model, TrainPolicy(kind="ffn_only")) as trained, torch.no_grad():
        model.model.norm.weight[0] += 1
    proof = trained.prove_untouched(model)
    assert proof.changed_outside == ("model.norm.weight",)
    assert not proof.holds


@pytest.mark.parametrize("policy", [p for p in POLICIES if p.kind not in ("lora", "neurons")], ids=lambda policy: policy.kind)
def test_what_trains_in_place_must_be_float32(model, policy):
    model.bfloat16()
    with pytest.raises(ConfigError, match="load the model in float32"), trainable(model, policy):
        pass
    assert all(p.requires_grad for p in model.parameters())


def test_a_set_and_its_policy_belong_together(model):
    with pytest.raises(ConfigError, match="needs a set"), trainable(model, TrainPolicy(kind="neurons")):
        pass
    with pytest.raises(ConfigError, match="takes no set"), trainable(model, TrainPolicy(), NEURONS):
        pass


def test_a_policy_is_checked_where_it_is_written():
    for wrong, message in (({"lora_rank": 0}, "below 1"), ({"lora_alpha": 0.0}, "not above 0"),
                           ({"lora_modules": ()}, "nothing would train"),
                           ({"lora_modules": ("q_projj",)}, "did you mean q_proj")):
        with pytest.raises(ConfigError, match=message):
            TrainPolicy(kind="lora", **wrong)


def test_of_the_embeddings_only_the_rows_from_one_on_may_train(model, sources):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    mixture = Mixture({name: source.num_sequences for name, source in sources.items()}, dict.fromkeys(sources, 1.0), 0, None,
                      CONFIG.total_samples)
    with trainable(model, TrainPolicy(kind="embeddings"), first_row=40) as trained:
        train(model, sources, mixture, CONFIG, SoloWorker("cpu"), NullTracker())
    after = dict(model.named_parameters())
    assert {name for name in after if not torch.equal(after[name], before[name])} == trained.free
    for name in trained.free:
        assert torch.equal(after[name][:40], before[name][:40])
        assert (after[name][40:] != before[name][40:]).any(1).all()
    assert trained.num_values == sum(21 * after[name].shape[1] for name in trained.free)
    proof = trained.prove_untouched(model)
    assert proof.holds
    assert proof.values_inside == trained.num_values
    with torch.no_grad():
        model.get_input_embeddings().weight[39] += 1
    assert trained.prove_untouched(model).changed_outside == ("model.embed_tokens.weight[:40]",)


@pytest.mark.parametrize(("kind", "stage"), [("all", 3), ("lora", 1), ("embeddings", 1)])
def test_only_where_every_value_trains_is_it_computed_in_the_way_of_whole_models(model, kind, stage):
    execution = ExecutionConfig(num_workers=2, engine="deepspeed", zero_stage=1, whole=WholeExecution(zero_stage=3))
    with trainable(model, TrainPolicy(kind=kind)):
        assert execution_for(model, execution).zero_stage == stage == execution.for_policy(kind).zero_stage
