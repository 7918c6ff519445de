"""What trains: one description for pre-training, continued pre-training, neurons, adapters and fine-tuning.

Inside `trainable` exactly the described values require a gradient, which is all that the loop and its engines look at.
Values are trained in place, or in small parameters of their own:

    all, ffn_only, embeddings    the model's own tensors; of embeddings perhaps only the rows from one on
    neurons                      the change of the selected rows and columns (compact.py); the base is put back
    lora                         W + alpha / r * B A on frozen W (Hu et al. 2021, arXiv 2106.09685, section 4.1), by
                                 peft; merged into W at the end
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sea_ray.errors import ConfigError
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.sites import TensorSlice, describe
from sea_ray.neurons.untouched import Snapshot, UntouchedProof, digest_tensor, prove_untouched, snapshot, tensor_digests
from sea_ray.training.compact import PREFIX, CompactNeurons, compact_neurons
from sea_ray.training.config import FFN_PROJECTIONS, TrainPolicy

_ADDED = (PREFIX, "lora_")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a policy trains in one model."""

    policy: TrainPolicy
    """Its description."""
    names: tuple[str, ...]
    """Parameters that require a gradient, as they are named inside the block, in the model's order."""
    num_values: int
    """Values that train."""
    compact: CompactNeurons | None
    """The neurons' parameters, for "neurons"; their deltas outlive the block."""
    free: frozenset[str]
    """Dense tensors that may be another when the block has ended; none for "neurons", which puts the base back."""
    slices: Mapping[str, TensorSlice]
    """Dense tensor -> rows or columns that may move, for "neurons"."""
    first_row: int
    """Rows of the free tensors before it stay, for "embeddings"; 0: all may move."""
    before: Snapshot
    """Digests of the model when the block began."""

    def prove_untouched(self, model: nn.Module) -> UntouchedProof:
        """Return what the model's tensors, compared with those before, say about everything that had to stay.

        Args:
            model: after the block; for "neurons" with the pack of the deltas applied.
        """
        return prove_untouched(self.before, _snapshot(model, self.free, self.slices, self.first_row))


@contextmanager
def trainable(model: PreTrainedModel, policy: TrainPolicy, neurons: NeuronSet | None = None, *, first_row: int = 0
              ) -> Iterator[Trained]:
    """Make exactly what a policy describes require a gradient; the model is a plain transformers model afterwards.

    When the block ends, the tensors require gradients as before and have the names and modules of before. After an error
    adapters are dropped without a merge; what trained in place keeps the values that it has.

    Args:
        model: a transformers causal language model.
        policy: what trains.
        neurons: the set, for "neurons" alone.
        first_row: first row of the embeddings that trains, for "embeddings" alone.

    Raises:
        ConfigError: a set is missing or too much, a tensor that would train in place is below float32, or the policy finds
            nothing in this model.
        DataError: the set was selected on a model of another shape.
    """
    if (neurons is None) == (policy.kind == "neurons"):
        raise ConfigError("kind", f"{policy.kind!r} {'needs a' if neurons is None else 'takes no'} set of neurons: it "
                                  "belongs to 'neurons' alone")
    assert not first_row or policy.kind == "embeddings", "only embeddings have rows of their own"
    free = frozenset(_free_tensors(model, policy))
    slices = {} if neurons is None else neurons.slices(describe(model))
    before = _snapshot(model, free, slices, first_row)
    with _installed(model, policy, free, neurons) as compact, _rows_held(model, free, first_row):
        training = {name: p[first_row:].numel() for name, p in model.named_parameters() if p.requires_grad}
        yield Trained(policy=policy, names=tuple(training), num_values=sum(training.values()), compact=compact,
                      free=free, slices=slices, first_row=first_row, before=before)


def is_added(name: str) -> bool:
    """Return whether a parameter of this name stands beside the model's own while they train."""
    return any(part.startswith(_ADDED) for part in name.split("."))


def _free_tensors(model: PreTrainedModel, policy: TrainPolicy) -> list[str]:
    """Return the dense tensors that may be another at the end."""
    named = dict(model.named_parameters())
    if policy.kind == "all":
        return list(named)
    if policy.kind == "embeddings":
        ends = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
        return [name for name, parameter in named.items() if id(parameter) in ends]
    modules = {"ffn_only": FFN_PROJECTIONS, "lora": policy.lora_modules}.get(policy.kind, ())
    found = [name for name in named if name.rpartition(".")[0].rpartition(".")[2] in modules]
    for module in modules:
        if not any(f".{module}." in name for name in found):
            raise ConfigError("lora_modules" if policy.kind == "lora" else "kind",
                              f"the {model.config.model_type} model has no layer {module!r}, which {policy.kind!r} trains")
    return [name for name in found if policy.kind != "lora" or name.endswith(".weight")]


def _snapshot(model: nn.Module, free: frozenset[str], slices: Mapping[str, TensorSlice], first_row: int) -> Snapshot:
    """Return the digests of a model, free slices, free whole tensors or their free rows apart."""
    if slices:
        return snapshot(model, slices)
    digests = tensor_digests(model)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    if first_row:
        for name, parameter in list(model.named_parameters()):
            if name in free:
                held, moving = f"{name}[:{first_row}]", parameter[first_row:]
                digests |= {held: digest_tensor(parameter[:first_row]), name: digest_tensor(moving)}
                sizes |= {held: parameter.numel() - moving.numel(), name: moving.numel()}
    return Snapshot(
        outside={name: digest for name, digest in digests.items() if name not in free},
        inside={name: digest for name, digest in digests.items() if name in free},
        values_outside=sum(size for name, size in sizes.items() if name not in free),
        values_inside=sum(size for name, size in sizes.items() if name in free))


def _installed(model: PreTrainedModel, policy: TrainPolicy, free: frozenset[str],
               neurons: NeuronSet | None) -> AbstractContextManager[CompactNeurons | None]:
    if neurons is not None:
        return compact_neurons(model, neurons)
    return _adapters(model, policy) if policy.kind == "lora" else _in_place(model, free)


@contextmanager
def _in_place(model: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Let some of the model's own parameters require a gradient, and no other."""
    parameters = dict(model.named_parameters())
    for name in names:
        if torch.finfo(parameters[name].dtype).bits < 32:
            raise ConfigError("dtype", f"{name} is {parameters[name].dtype}, whose resolution loses small steps: load the "
                                       "model in float32; dtype=bfloat16 of the training still multiplies in bfloat16")
    before = {name: parameter.requires_grad for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in names)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(before[name])


@contextmanager
def _rows_held(model: nn.Module, names: Iterable[str], first_row: int) -> Iterator[None]:
    """Let the rows before one have no gradient: AdamW, which never decays embeddings, then leaves them byte for byte."""
    def without_held(grad: Tensor) -> Tensor:
        return grad.index_fill(0, torch.arange(first_row, device=grad.device), 0)

    parameters = dict(model.named_parameters())
    hooks = [parameters[name].register_hook(without_held) for name in names] if first_row else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _adapters(model: PreTrainedModel, policy: TrainPolicy) -> Iterator[None]:
    """Put peft's adapters beside the linear layers; in the end the layers themselves stand in the model again.

    The tuner is used without a PeftModel around it, which would rename every tensor.
    """
    from peft import LoraConfig, LoraModel

    config = LoraConfig(r=policy.lora_rank, lora_alpha=policy.lora_alpha, target_modules=list(policy.lora_modules),
                        lora_dropout=0.0, bias="none")
    with _in_place(model, ()):
        with torch.random.fork_rng(devices=[]):  # peft draws on the CPU; ranks must draw alike
            torch.manual_seed(policy.lora_seed)
            tuner = LoraModel(model, config, "default")
        for parameter in model.parameters():
            if parameter.requires_grad:  # float32 masters for any base, as compact neurons have them
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        try:
            yield
        except BaseException:
            tuner.unload()
            raise
        tuner.merge_and_unload()
