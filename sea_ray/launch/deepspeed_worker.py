"""A rank of a torch.distributed group whose steps DeepSpeed computes; many runs follow each other in one group."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from transformers import PreTrainedModel

from sea_ray.errors import ConfigError, MachineError
from sea_ray.training.config import ExecutionConfig, TrainConfig
from sea_ray.training.engine import (
    MOMENTS,
    Engine,
    Parameters,
    Read,
    adamw,
    choose_device,
    execution_for,
    load_optimizer_state,
    optimizer_state,
    precision,
)
from sea_ray.training.footprint import held_bytes
from sea_ray.training.sequences import Batch
from sea_ray.training.token_loss import TokenLoss

T = TypeVar("T")

BUCKET_VALUES = 1 << 26
"""Most gradient values that are reduced at once (256 MiB)."""
LONGEST_WAIT = timedelta(days=2)
"""Of a rank for what another computes by itself, such as a shard of an evaluation; torch's own limit is half an hour. Whoever
waits for a rank that is lost hears of it at once."""


class DeepSpeedWorker:
    """This process as a rank of the process group that is already up (Ray Train, torchrun or a test made it)."""

    def __init__(self, execution: ExecutionConfig, is_preempted: Callable[[], bool] = lambda: False) -> None:
        """Take rank and size from the group.

        Args:
            execution: how steps are computed.
            is_preempted: whether this process has heard that a machine of the group goes away.

        Raises:
            MachineError: if there is no process group.
        """
        if not dist.is_initialized():
            raise MachineError("DeepSpeed needs a torch.distributed process group; start the training in Ray Train's "
                               "worker group, or choose execution.engine=torch for one process")
        self.execution = execution
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.device = choose_device(execution.device)
        self._is_preempted = is_preempted
        self._patient: dist.ProcessGroup | None = None
        if execution.threads_per_worker and self.device.type == "cpu":
            torch.set_num_threads(execution.threads_per_worker)

    @property
    def preempted(self) -> bool:
        """Whether this process has heard that a machine of the group goes away."""
        return self._is_preempted()

    def engine(self, model: PreTrainedModel, parameters: Parameters, config: TrainConfig) -> Engine:
        """Return a DeepSpeed engine of the configured ZeRO stage."""
        return DeepSpeedEngine(model, parameters, config, self)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks, on each."""
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def broadcast(self, value: T) -> T:
        """Return rank 0's value on each rank."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Return every rank's value on each, over gloo: an idle GPU would spin in NCCL, and give up after half an hour."""
        if self._patient is None:
            self._patient = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        values = [value] * self.world_size
        dist.all_gather_object(values, value, group=self._patient)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier()

    def describe(self) -> dict[str, Any]:
        """Return the group's size, backend and versions."""
        return {"workers": self.world_size, "backend": str(dist.get_backend()), "device": str(self.device),
                "torch": torch.__version__}


class DeepSpeedEngine:
    """One training by deepspeed.initialize, with a torch optimiser."""

    def __init__(self, model: PreTrainedModel, parameters: Parameters, config: TrainConfig,
                 worker: DeepSpeedWorker) -> None:
        """Args: model, parameters: what trains; config: optimiser, clipping, precision; worker: this rank."""
        deepspeed = _import_deepspeed()
        self._version = deepspeed.__version__
        self._config, self._worker = config, worker
        self._execution = execution_for(model, worker.execution)
        self._stage = self._execution.zero_stage
        self._named, self._parameters = parameters, list(parameters.values())
        if self._stage == 3 and worker.world_size == 1:
            raise ConfigError("zero_stage", "3 shares parameters among workers, and there is one: choose 0, 1 or 2")
        module = TokenLoss(model).to(worker.device)
        self._model = model
        self._engine, *_ = deepspeed.initialize(
            model=module, optimizer=adamw(model, parameters, config), config=self._settings(), dist_init_required=False)
        if self._stage == 3:  # the loss reads this weight outside the forward of the module that owns it
            deepspeed.zero.register_external_parameter(module, model.get_output_embeddings().weight)
        if self._execution.compile:
            self._engine.compile()
        self._deepspeed = deepspeed
        self._gradient_bytes = 0

    def _settings(self) -> dict[str, Any]:
        values = sum(p.numel() for p in self._parameters)
        bucket = min(values + values % 2, BUCKET_VALUES)  # DeepSpeed refuses an odd bucket
        zero: dict[str, Any] = {"stage": self._stage, "overlap_comm": False, "reduce_bucket_size": bucket,
                "allgather_bucket_size": bucket}
        if self._execution.offload != "none":
            zero["offload_optimizer"] = {"device": "cpu"}
        if self._execution.offload == "all":
            zero["offload_param"] = {"device": "cpu"}
        return {
            "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1,  # boundaries are set by backward()
            "gradient_clipping": self._config.clip_norm if self._stage else 0.0,
            "zero_optimization": zero, "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": None}

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the sum of a micro batch's token losses."""
        with precision(self._config, self._worker.device):
            return self._engine(batch)

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add a loss's gradient; DeepSpeed averages over ranks, so the loss is first multiplied by their number."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self._worker.world_size, scale_wrt_gas=False)
        if not last:
            self._engine.step()

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear the gradients; return their global norm before clipping."""
        self._gradient_bytes = self._gradient_bytes or held_bytes(self._gradients())
        norm = None
        if self._stage == 0:  # without ZeRO DeepSpeed clips but neither tells the norm nor looks whether it is finite
            norm = nn.utils.clip_grad_norm_(self._parameters, self._config.clip_norm or float("inf"))
            if not torch.isfinite(norm):
                self._engine.zero_grad()
                return float(norm)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        return float(self._engine.get_global_grad_norm() if norm is None else norm)

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        """The torch optimiser below DeepSpeed's."""
        return getattr(self._engine.optimizer, "optimizer", self._engine.optimizer)

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield values and moments, with ZeRO gathered from the ranks one tensor after the other."""
        if self._stage == 0:
            yield from optimizer_state(self._optimizer, self._named)
            return
        utils, stepped = self._deepspeed.utils, bool(self._optimizer.state)
        if stepped:
            self._link_moments()
        for name, parameter in self._named.items():
            yield f"value/{name}", utils.safe_get_full_fp32_param(parameter) if self._stage == 3 else parameter
            if stepped:
                for moment in MOMENTS:
                    yield f"{moment}/{name}", utils.safe_get_full_optimizer_state(parameter, moment)

    def load_moments(self, read: Read, updates: int, batch: Batch) -> None:
        """Take over AdamW's moments and count.

        With ZeRO they can be set only where they exist, so a step with gradients and a rate of zero, which moves nothing,
        makes them first.
        """
        if self._stage == 0:
            load_optimizer_state(self._optimizer, self._named, read, updates)
            return
        self.backward(self.loss(batch) * 0, last=True)
        self.step(0.0)
        self._link_moments()
        for name, parameter in self._named.items():
            for moment in MOMENTS:
                self._deepspeed.utils.safe_set_full_optimizer_state(parameter, read(moment, name).to(self._worker.device), moment)
        for state in self._optimizer.state.values():
            state["step"].fill_(updates)

    def _gradients(self) -> Iterator[torch.Tensor | None]:
        """Yield what this rank keeps for the step: whole gradients, or with ZeRO those of its own partition."""
        yield from (parameter.grad for parameter in self._parameters)
        for group in getattr(self._engine.optimizer, "averaged_gradients", {}).values():
            yield from group or ()

    def _link_moments(self) -> None:
        """Let every parameter of ZeRO 1 and 2 find its moments.

        DeepSpeed 0.19 does that when its first group of parameters has made its first step, before the other groups have any.
        """
        if self._stage < 3:
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def state_bytes(self) -> int:
        """Return the bytes of gradients and AdamW's state: of one rank without ZeRO, else of all ranks' partitions.

        The flat copies of what trains that ZeRO 1 and 2 keep, in float32, belong to the state; padding counts.
        """
        moments = (value for state in self._optimizer.state.values() for value in state.values())
        weights = [getattr(parameter, "ds_tensor", parameter) for parameter in self._parameters]
        own = self._gradient_bytes + held_bytes([*moments, *self._optimizer.state], besides=weights)
        if self._stage == 0:
            return own
        return int(self._worker.sum(torch.tensor(own, device=self._worker.device)))

    def describe(self) -> dict[str, Any]:
        """Return the engine's name, version and ZeRO stage."""
        return {"engine": "deepspeed", "version": self._version, "zero_stage": self._stage,
                "device": str(self._worker.device)}

    def close(self) -> None:
        """Let the model go; after ZeRO-3 every rank has the whole parameters again."""
        if self._stage == 3:
            whole = {}
            for parameter in self._model.parameters():
                with self._deepspeed.zero.GatheredParameters([parameter]):
                    whole[parameter] = parameter.detach().clone()
        self._engine.destroy()
        if self._stage == 3:
            for parameter, values in whole.items():
                parameter.data = values
        del self._engine, self._model, self._parameters, self._named
        gc.collect()  # DeepSpeed's engine is a web of cycles; left to chance it holds the optimiser into the next run


def _import_deepspeed() -> Any:
    """Import DeepSpeed; not at the top of the file, since only processes that train should pay the 3.5 s."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed

    # Else DeepSpeed compiles a C++ helper for inference at the first run: 40 s here, and it needs a compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
