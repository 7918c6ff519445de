"""What a training will take, before anything starts: bytes of each worker by phase, and the work of a step.

Plain arithmetic on shapes; tests compare it with what trainings of this project really hold and with torch's own count of
operations. The sizes follow the code that trains (token_loss.py, compact.py, engine.py, launch/deepspeed_worker.py).

Letters: P values that train, W workers, D d_model, M d_mlp, H query width, K key-value width, V vocabulary, T tokens of a
sequence, S tokens of a forward pass, N loss targets of it, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sea_ray.neurons.config import SiteKind
from sea_ray.training.config import PROJECTIONS, ExecutionConfig, TrainConfig, TrainPolicy
from sea_ray.training.shape import EMBEDDINGS, ModelShape, Sizes, num_values

FLOAT = 4
"""Bytes of a float32: weights, gradients and optimiser state are never less."""
BUCKET_VALUES = 1 << 26
"""Most gradient values that DeepSpeed reduces at once, as launch/deepspeed_worker.py sets it."""
UNPARTITIONED_VALUES = 100_000
"""ZeRO-3 leaves tensors of up to so many values whole on every worker (stage3_param_persistence_threshold's default)."""
LIVE_VALUES = 1_000_000_000
"""Values that ZeRO-3 keeps gathered at most (stage3_max_live_parameters' default)."""
REDUCE_VALUES = 500_000_000
"""Values that DeepSpeed without ZeRO flattens for one reduction."""
CHUNK_LOGITS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Logits that exist at a time, as token_loss.py chooses them."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training as far as its cost goes."""

    shape: ModelShape
    """The model."""
    policy: TrainPolicy
    """What trains."""
    config: TrainConfig
    """Steps, batch, precision."""
    neurons: Mapping[SiteKind, int] = field(default_factory=dict)
    """Kind of site -> neurons in the whole model, for the policy "neurons"."""

    @property
    def trained(self) -> Sizes:
        """The tensors that train."""
        return self.shape.trained(self.policy, self.neurons)

    @property
    def trained_values(self) -> int:
        """Values that train."""
        return num_values(self.trained)

    @property
    def tokens(self) -> int:
        """Positions that are computed in all steps, padding included."""
        return self.config.total_samples * self.config.sequence_tokens


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes that one worker holds on its device at the worst moment of a training, and beside it."""

    weights: int
    """The model's values, what stands beside them while they train, and their copies in bfloat16."""
    gradients: int
    """As the optimiser's step finds them."""
    optimizer: int
    """AdamW's moments and counts; with ZeRO the optimiser's own values."""
    activations: int
    """What the backward pass of one micro batch needs, and the logits of one chunk."""
    buffers: int
    """What passes: gradients under way, gathered weights, the gradient of the output layer."""
    peak: int
    """The most that is held at a time; not all parts are there at the same moment."""
    host: int
    """Bytes of the processor's memory that a worker on an accelerator needs besides: the model while it is loaded, what is
    offloaded. On the CPU: 0, since there everything is in `peak`."""


def estimate_memory(training: Training, execution: ExecutionConfig, device: str = "cpu") -> MemoryEstimate:
    """Return what a worker will hold.

    Args:
        training: what trains on which batch.
        execution: workers, ZeRO stage, offload, activation checkpointing; as it is for all policies.
        device: "cpu" or "cuda".
    """
    execution = execution.for_policy(training.policy.kind)
    shape, config = training.shape, training.config
    held = _States.of(training, execution)
    micro, num_micro = micro_batches(config, execution.num_workers)
    activations = activation_bytes(training, micro, execution.activation_checkpointing, device)
    loss, late = _head_bytes(training)
    gathered = FLOAT * min(shape.num_values, LIVE_VALUES) if execution.zero_stage == 3 and execution.engine == "deepspeed" else 0
    casts = _cast_bytes(training, execution.activation_checkpointing)
    accumulated = held.accumulated if num_micro > 1 else 0
    # While activations are largest few gradients exist, and the other way round: the peak is at one of the ends.
    forward = accumulated + activations + loss
    backward = held.passing + late + (activation_bytes(training, micro, True, device) if num_micro > 1 else 0)
    step = held.gradients + held.flattened
    fixed = held.weights + casts + held.optimizer + gathered
    peak = max(fixed + max(forward, backward), held.weights + held.optimizer + step)
    if execution.zero_stage == 3 and execution.engine == "deepspeed":  # in the end every worker gets the whole model
        peak = max(peak, held.weights + held.optimizer + held.gradients + FLOAT * shape.num_values)
    host = 0
    if device != "cpu":
        host = max(FLOAT * shape.num_values, held.offloaded)
    elif held.offloaded:
        peak += held.offloaded
    buffers = max(loss, held.passing - held.gradients + late, held.flattened) + gathered
    return MemoryEstimate(weights=held.weights + casts, gradients=held.gradients, optimizer=held.optimizer,
                          activations=activations, buffers=buffers, peak=peak, host=host)


def gradient_and_state_bytes(training: Training, execution: ExecutionConfig) -> int:
    """Return what `TrainReport.gradient_and_state_bytes` will be: of all workers together, replicas once."""
    held = [_States.of(training, execution.for_policy(training.policy.kind), rank) for rank in range(execution.num_workers)]
    total = [each.gradients + each.optimizer + each.offloaded_states for each in held]
    return total[0] if execution.zero_stage == 0 or execution.engine == "torch" else sum(total)


def micro_batches(config: TrainConfig, num_workers: int) -> tuple[int, int]:
    """Return the sequences of a forward pass, and how many of those a worker makes for a step."""
    part = math.ceil(config.batch_sequences / num_workers)
    size = min(config.micro_batch or part, part)
    return size, math.ceil(part / size)


@dataclass(frozen=True, kw_only=True)
class _States:
    """Bytes on one worker that do not depend on the batch."""

    weights: int
    gradients: int
    """As the step finds them."""
    optimizer: int
    accumulated: int
    """Gradients that exist while a further micro batch is computed."""
    passing: int
    """Gradients and their buckets at the end of a backward pass."""
    flattened: int
    """Copies that the step makes."""
    offloaded: int = 0
    """In the processor's memory."""
    offloaded_states: int = 0
    """The part of it that is gradients and optimiser state."""

    @classmethod
    def of(cls, training: Training, execution: ExecutionConfig, rank: int = 0) -> _States:
        sizes = training.trained
        values = [math.prod(size) for size in sizes.values()]
        trained, workers = sum(values), execution.num_workers
        dense = training.shape.tensors()
        beside = trained if training.policy.kind in ("neurons", "lora") else 0
        # Neurons keep the base's values beside their change; adapters have nothing to put back.
        weights = FLOAT * (num_values(dense) + beside * (2 if training.policy.kind == "neurons" else 1))
        bucket = FLOAT * min(trained, BUCKET_VALUES)
        stage = execution.zero_stage if execution.engine == "deepspeed" else 0
        if stage == 0:
            flattened = FLOAT * min(trained, REDUCE_VALUES) if workers > 1 else 0
            return cls(weights=weights, gradients=FLOAT * trained, optimizer=2 * FLOAT * trained + FLOAT * len(values),
                       accumulated=FLOAT * trained, passing=FLOAT * trained, flattened=flattened)
        if stage == 3:
            whole = [*map(math.prod, dense.values()), *(values if beside else ())]
            kept = FLOAT * sum(_partition(n, workers) if n > UNPARTITIONED_VALUES else n for n in whole)
            own = sum(_partition(n, workers) for n in values)
            gradients, optimizer, overlap = FLOAT * own, 3 * FLOAT * own + FLOAT, 0
            if beside and training.policy.kind == "neurons":
                kept += FLOAT * trained
            states = cls(weights=kept, gradients=gradients, optimizer=optimizer, accumulated=gradients + bucket,
                         passing=gradients + 2 * bucket, flattened=0)
        else:
            groups = decay_groups(sizes)
            parts = [_partition(sum(group), workers, aligned=2) for group in groups]
            overlap = sum(_overlapping(group, part * rank, part * (rank + 1)) for group, part in zip(groups, parts, strict=True))
            whole_gradients = FLOAT * trained if stage == 1 else FLOAT * overlap
            states = cls(weights=weights, gradients=FLOAT * overlap, optimizer=3 * FLOAT * sum(parts) + FLOAT * len(parts),
                         accumulated=whole_gradients + (bucket if stage == 2 else 0), passing=whole_gradients + 2 * bucket,
                         flattened=FLOAT * max(parts) + bucket)
        return states._offloaded(execution.offload, stage)

    def _offloaded(self, what: str, stage: int) -> _States:
        if what == "none":
            return self
        gone = self.gradients if stage > 1 else 0  # stage 1 keeps every gradient on the device until all are there
        states = self.gradients + self.optimizer
        weights = self.weights if what == "all" else 0
        return replace(self, weights=self.weights - weights, gradients=0, optimizer=0, offloaded=states + weights,
                       offloaded_states=states, accumulated=self.accumulated - gone, passing=self.passing - gone)


def decay_groups(sizes: Mapping[str, tuple[int, ...]]) -> list[list[int]]:
    """Return the sizes of the tensors of AdamW's two groups, as `engine.parameter_groups` makes them; empty ones left out."""
    groups: tuple[list[int], list[int]] = ([], [])
    for name, size in sizes.items():
        decays = ".compact_" in name or (len(size) > 1 and name not in EMBEDDINGS)
        groups[not decays].append(math.prod(size))
    return [group for group in groups if group]


def _partition(values: int, workers: int, aligned: int = 1) -> int:
    """Return one worker's share; DeepSpeed pads so that all have as much."""
    return math.ceil(values / (workers * aligned)) * aligned


def _overlapping(sizes: list[int], start: int, end: int) -> int:
    """Return the values that ZeRO 1 and 2 hold of a group's gradients for a partition: tensors that reach into it are held
    whole, and padding at its end counts.
    """
    place = held = 0
    for size in sizes:
        if place < end and place + size > start:
            held += size
        place += size
    return held + max(0, end - max(start, place))


def activation_bytes(training: Training, sequences: int, checkpointing: bool, device: str = "cpu") -> int:
    """Return what autograd keeps of a micro batch for its backward pass, with the logits of a chunk.

    Of each token and layer, where everything trains: both norms keep their input, their normalised input and the linear
    layers' input (6 D); attention its query, key, value and output, with key and value repeated for every query head because
    of the mask at document borders (4 H), the mask itself (T) and a sum per head; the feed-forward network gate, silu(gate), up
    and their product (4 M). What is frozen keeps less: no normalised input, and of a linear layer's input only what its selected
    columns read. With checkpointing a layer keeps its input alone (Chen et al. 2016, arXiv 1604.06174), and one layer at a time
    all of it. In bfloat16 the residual stream and the norms stay float32.
    """
    shape, config = training.shape, training.config
    product = 2 if config.dtype == "bfloat16" else FLOAT
    tokens = sequences * config.sequence_tokens
    inputs, middle = _kept_inputs(training)
    norms = 2 * shape.d_model * FLOAT * (2 if training.policy.kind == "all" else 1)
    attention = product * (4 * shape.d_query + config.sequence_tokens) + FLOAT * shape.num_heads
    layer = norms + product * inputs * shape.d_model + attention + product * (3 + middle) * shape.d_mlp
    transient = product * (3 * shape.d_mlp + 2 * shape.d_model)
    ends = 3 * shape.d_model * FLOAT  # the last norm, the hidden states at the targets and their gradient
    if checkpointing:
        of_a_token = shape.num_layers * shape.d_model * FLOAT + layer + ends + transient
    else:
        of_a_token = shape.num_layers * layer + ends + transient
    chunk = max(64, CHUNK_LOGITS[device] // shape.vocab_size)
    return tokens * of_a_token + 2 * FLOAT * min(chunk, tokens) * shape.vocab_size


def _kept_inputs(training: Training) -> tuple[int, int]:
    """Return how many of the two norms' outputs a layer keeps as inputs of linear layers, and whether the product before
    down_proj.
    """
    policy = training.policy
    if policy.kind == "all":
        return 2, 1
    if policy.kind == "ffn_only":
        return 1, 1
    if policy.kind == "lora":
        modules = set(policy.lora_modules)
        norms = bool(modules & {"q_proj", "k_proj", "v_proj"}) + bool(modules & {"gate_proj", "up_proj"})
        return norms, int("down_proj" in modules)
    chosen = {site for site, count in training.neurons.items() if count}
    return bool(chosen - {"ffn"}) + ("ffn" in chosen), 0


def _cast_bytes(training: Training, checkpointing: bool) -> int:
    """Return the bytes of the linear layers' bfloat16 copies: autocast keeps them through a forward pass where they train, and
    autograd where they are frozen, unless that layer is computed again; a substituted layer keeps none.
    """
    shape = training.shape
    if training.config.dtype != "bfloat16":
        return 0
    layers = 1 if checkpointing and training.policy.kind != "all" else shape.num_layers
    trained = training.trained if training.policy.kind == "neurons" else {}
    substituted = {name.split(".")[-2] for name in trained}
    kept = sum(math.prod(shape.projection(name)) for name in PROJECTIONS if name not in substituted)
    return 2 * (layers * kept + shape.embedding_values)


def _head_bytes(training: Training) -> tuple[int, int]:
    """Return what the output layer's gradient takes beside .grad: while the loss is computed, and when the backward pass ends.

    The loss forms it whole in float32, adds each chunk's product to it and scales a copy of it; an input embedding that trains
    has a dense gradient of its own before it is added.
    """
    if not set(EMBEDDINGS) & set(training.trained):
        return 0, 0
    size = training.shape.embedding_values * FLOAT
    return 2 * size + (size // 2 if training.config.dtype == "bfloat16" else 0), size if training.shape.tie_embeddings else 0


@dataclass(frozen=True, kw_only=True)
class StepWork:
    """Floating-point operations of one step, all workers together; a multiplication and an addition are two."""

    matrices: float
    """Of products with weights."""
    attention: float
    """Of products among tokens, all pairs counted."""

    @property
    def total(self) -> float:
        """Both."""
        return self.matrices + self.attention


def step_work(training: Training, *, checkpointing: bool = False) -> StepWork:
    """Return the work of a step.

    With n values of linear layers, a token costs 2 n forward, 2 n for the gradient of the layers' inputs and 2 n for the
    gradient of the weights that train (Kaplan et al. 2020, arXiv 2001.08361, section 2.1: C = 6 N); attention over T tokens
    4 T H forward and twice as much backward in each layer (Chowdhery et al. 2022, arXiv 2204.02311, appendix B). Neurons have
    2 n of their own values only for the weights' gradient, so about 4 n in all; adapters 6 n of their own values besides. Nothing
    is propagated below the lowest values that train. With checkpointing the layers are computed forward twice, but for down_proj
    where nothing waits for its output (measured: where all values or the embeddings train).
    """
    shape, config = training.shape, training.config
    tokens = config.batch_sequences * config.sequence_tokens
    layers = 2.0 * shape.num_layers * shape.layer_matrix_values * tokens
    head = 2.0 * shape.embedding_values * tokens
    sizes = training.trained
    matrices = {name: math.prod(size) for name, size in sizes.items() if len(size) > 1 and name not in EMBEDDINGS}
    weights = 2.0 * sum(matrices.values()) * tokens
    embeddings = bool(set(EMBEDDINGS) & set(sizes))
    forward, inputs = layers + head, layers + head
    pairs = 4.0 * config.sequence_tokens * shape.d_query * shape.num_layers * tokens
    attention = 3 * pairs
    if not embeddings:  # nothing below layer 0 trains, so its first products need no gradient of their input
        above = any(".layers.0.self_attn." in name for name in sizes)
        inputs -= 2.0 * tokens * sum(math.prod(shape.projection(name)) for name in PROJECTIONS[:3 if above else 6])
        attention -= 0 if above else 2 * pairs / shape.num_layers
    if training.policy.kind == "lora":
        weights *= 3
    if embeddings:
        weights += head
    matrices_again = attention_again = 0.0
    if checkpointing:
        attention_again = pairs
        spared = math.prod(shape.projection("down_proj")) if training.policy.kind in ("all", "embeddings") else 0
        beside = weights / 3 if training.policy.kind == "lora" else 0
        matrices_again = layers - 2.0 * shape.num_layers * spared * tokens + beside
    return StepWork(matrices=forward + inputs + weights + matrices_again, attention=attention + attention_again)
