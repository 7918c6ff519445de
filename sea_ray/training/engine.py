"""The border between the training loop and whatever computes a step: plain torch here, DeepSpeed in launch/."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from sea_ray.errors import SeaRayError
from sea_ray.training.compact import PREFIX
from sea_ray.training.config import ExecutionConfig, TrainConfig
from sea_ray.training.footprint import held_bytes
from sea_ray.training.sequences import Batch
from sea_ray.training.token_loss import TokenLoss

T = TypeVar("T")
Parameters = Mapping[str, nn.Parameter]
Read = Callable[[str, str], torch.Tensor]
"""From a kind of tensor, one of MOMENTS, and its parameter's name to its values, whole."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's running means of the gradient and of its square, by torch's names."""


class PreemptedError(Exception):
    """The machine goes away: the state is saved, and this process should train no further."""


class Engine(Protocol):
    """Computes the steps of one training. Gradients are summed over micro batches and over ranks."""

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the sum of a micro batch's token losses."""

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add a loss's gradient; `last` marks the step's last micro batch. Called equally often on all ranks."""

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear the gradients; return their global norm before clipping.

        If the norm is not finite nothing moves: the gradients are cleared.
        """

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield ("value/NAME" or "exp_avg/NAME" ..., whole tensor), one at a time; by every rank alike, between steps.

        Before the first step there are no moments. A tensor may change or go with the next one.
        """

    def load_moments(self, read: Read, updates: int, batch: Batch) -> None:
        """Take over AdamW's moments and count; called before the first step, by every rank alike.

        Args:
            read: gives the whole tensors.
            updates: steps that made them, at least 1.
            batch: any, for engines that make their state in a step.
        """

    def state_bytes(self) -> int:
        """Return the bytes of gradients and optimiser state that are held, over all ranks, replicas counted once.

        Counted from the tensors themselves: gradients as the first step finds them, moments, step counters and the
        optimiser's own copies of what trains; no passing buffers. Called after a step, by every rank alike.
        """

    def describe(self) -> dict[str, Any]:
        """Return which engine in which version computed, for the record."""

    def close(self) -> None:
        """Let the model go, with its trained values in its own plain parameters on every rank."""


class Worker(Protocol):
    """One process among those that train together."""

    rank: int
    world_size: int
    device: torch.device
    execution: ExecutionConfig

    @property
    def preempted(self) -> bool:
        """Whether this process has heard that a machine of its group goes away; the ranks may hear it one after the other."""

    def engine(self, model: PreTrainedModel, parameters: Parameters, config: TrainConfig) -> Engine:
        """Return an engine that trains the given parameters of a model."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks, on each."""

    def broadcast(self, value: T) -> T:
        """Return rank 0's value on each rank."""

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, in the order of the ranks, on each; a rank may wait for the others for hours, but for the
        first call, which all make at about the same time."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def describe(self) -> dict[str, Any]:
        """Return the kind and number of workers and the versions, for the record."""


@contextlib.contextmanager
def together(worker: Worker) -> Iterator[None]:
    """Let each rank work by itself inside the block and wait for the others at its end; called by every rank alike.

    What a rank refuses on purpose, or that it has heard of a preemption, all ranks raise at the end, the lowest rank's if there
    are several; so none waits for one that has left. Any other failure is raised at once where it happens.
    """
    own: Exception | None = None
    try:
        yield
    except (SeaRayError, PreemptedError) as error:
        own = error
    outcomes, own = worker.gather(own), None  # its traceback holds what this rank worked on, such as a model
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def execution_for(model: nn.Module, execution: ExecutionConfig) -> ExecutionConfig:
    """Return how a model is trained: by `execution.whole` where all of its values train, and else as all others."""
    return execution.for_policy("all") if all(p.requires_grad for p in model.parameters()) else execution


def parameter_groups(model: PreTrainedModel, parameters: Parameters, weight_decay: float) -> list[dict[str, Any]]:
    """Return optimiser groups: weight decay acts on the matrices of the layers, and on every change of a neuron.

    Norms and biases set scales that decay would only distort, and an embedding row that a batch doesn't touch would
    shrink without a gradient to answer; so those are excluded, the output embedding too. A compact parameter is the
    change against the base, so its decay pulls a neuron, with its bias element, towards the base.
    """
    embeddings = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}

    def decays(name: str, parameter: nn.Parameter) -> bool:
        change = name.rpartition(".")[2].startswith(PREFIX)
        return change or (parameter.ndim >= 2 and id(parameter) not in embeddings)

    decayed = [p for name, p in parameters.items() if decays(name, p)]
    rest = [p for name, p in parameters.items() if not decays(name, p)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(model: PreTrainedModel, parameters: Parameters, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter, arXiv 1711.05101) in torch's fused form."""
    return torch.optim.AdamW(parameter_groups(model, parameters, config.weight_decay), lr=config.learning_rate,
                             betas=config.betas, eps=1e-8, fused=True)


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Parameters) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what a plain torch optimiser holds for whole parameters, named as by `Engine.state`."""
    for name, parameter in parameters.items():
        yield f"value/{name}", parameter
        if parameter in optimizer.state:
            for moment in MOMENTS:
                yield f"{moment}/{name}", optimizer.state[parameter][moment]


def load_optimizer_state(optimizer: torch.optim.Optimizer, parameters: Parameters, read: Read, updates: int) -> None:
    """Put moments and count into a plain torch AdamW."""
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(updates), device=parameter.device),
            **{moment: read(moment, name).to(parameter.device) for moment in MOMENTS}}


def precision(config: TrainConfig, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass: bfloat16 products on float32 weights, or plain float32.

    Weights stay float32: an Adam step of 1e-5 on a weight of 0.02 is below bfloat16's resolution.
    """
    if config.dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class TorchEngine:
    """Plain torch in one process."""

    def __init__(self, model: PreTrainedModel, parameters: Parameters, config: TrainConfig,
                 device: torch.device, *, compiled: bool = False) -> None:
        """Args: model, parameters: what trains; config: optimiser, clipping, precision; device: where; compiled: whether
        torch.compile takes the model.
        """
        self.module: nn.Module = TokenLoss(model).to(device)
        if compiled:
            self.module.compile()
        self._config, self._device, self._named = config, device, parameters
        self._parameters = list(parameters.values())
        self._optimizer = adamw(model, parameters, config)
        self._gradient_bytes = 0

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the sum of a micro batch's token losses."""
        with precision(self._config, self._device):
            return self.module(batch)

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add a loss's gradient."""
        loss.backward()

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear the gradients; return their norm before clipping."""
        self._gradient_bytes = self._gradient_bytes or held_bytes(p.grad for p in self._parameters)
        limit = self._config.clip_norm or float("inf")
        norm = float(nn.utils.clip_grad_norm_(self._parameters, limit))
        if norm - norm == 0:  # finite
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield values and moments."""
        return optimizer_state(self._optimizer, self._named)

    def load_moments(self, read: Read, updates: int, batch: Batch) -> None:
        """Take over AdamW's moments and count."""
        load_optimizer_state(self._optimizer, self._named, read, updates)

    def state_bytes(self) -> int:
        """Return the bytes of gradients and AdamW's state."""
        return self._gradient_bytes + held_bytes(
            value for state in self._optimizer.state.values() for value in state.values())

    def describe(self) -> dict[str, Any]:
        """Return the engine's name and version."""
        return {"engine": "torch", "version": torch.__version__, "device": str(self._device), "zero_stage": 0}

    def close(self) -> None:
        """Drop the optimiser's state."""
        self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.state.clear()


class SoloWorker:
    """The only process: plain torch."""

    rank = 0
    world_size = 1
    preempted = False

    def __init__(self, device: str = "auto", execution: ExecutionConfig | None = None) -> None:
        """Args: device: torch's name of it, "auto" takes a GPU if there is one; execution: how often states are saved, and how
        steps are computed.
        """
        self.device = choose_device(device)
        self.execution = execution or ExecutionConfig()

    def engine(self, model: PreTrainedModel, parameters: Parameters, config: TrainConfig) -> Engine:
        """Return a plain torch engine."""
        return TorchEngine(model, parameters, config, self.device, compiled=self.execution.compile)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor."""
        return tensor

    def broadcast(self, value: T) -> T:
        """Return the value."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return the value, the only one."""
        return [value]

    def barrier(self) -> None:
        """Go on."""

    def describe(self) -> dict[str, Any]:
        """Return that there is one worker."""
        return {"workers": 1, "device": str(self.device), "torch": torch.__version__}


def choose_device(device: str) -> torch.device:
    """Return the torch device of a name, or for "auto" a GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
