"""On a GPU everything is as on the CPU: the losses, the gradients, what moves, what is found and what is served.

They need torch and transformers alone: `python -m pytest tests/gpu`.
"""

import copy
import importlib.util
from contextlib import closing

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2 import modeling_qwen2

from benchmarks.arms import spread_neurons
from sea_ray.artifacts import StageKey, Store
from sea_ray.errors import DataError
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.execution import SoloPlatform, run_stage
from sea_ray.neurons.config import DetectionConfig, SelectionConfig
from sea_ray.neurons.detection import collect_importance
from sea_ray.neurons.selection import select_neurons
from sea_ray.neurons.sites import describe
from sea_ray.neurons.statistics import ImportanceStats
from sea_ray.neurons.untouched import tensor_digests
from sea_ray.neurons.windows import Windows, cut_windows
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Request
from sea_ray.tracking import NullTracker
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.config import ExecutionConfig, ModelConfig, TrainConfig
from sea_ray.training.engine import SoloWorker, precision
from sea_ray.training.kernels import prepared
from sea_ray.training.loop import train
from sea_ray.training.mixture import Mixture
from sea_ray.training.model import new_model
from sea_ray.training.neuron_training import train_neurons
from sea_ray.training.policy import TrainPolicy, trainable
from sea_ray.training.sequences import Batch, SequenceSet, collate, pack_corpus
from sea_ray.training.state import TrainingStates
from sea_ray.training.token_loss import TokenLoss, chunked_cross_entropy

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
VOCAB, EOS, TOKENS = 307, 0, 128
SHAPE = ModelConfig(d_model=64, num_layers=3, num_heads=4, num_kv_heads=2, d_mlp=160, max_position=256)
CONFIG = TrainConfig(steps=12, batch_sequences=4, sequence_tokens=TOKENS, learning_rate=3e-3)
DTYPES = ("float32", "bfloat16")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture
def model():
    """A random model on the CPU whose biases and norms are not at their initial values."""
    made = new_model(SHAPE, VOCAB, seed=3, eos_id=EOS).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made


@pytest.fixture(scope="module")
def sources() -> dict[str, SequenceSet]:
    """Packed documents whose tokens count upwards, so that there is something to learn."""
    generator = np.random.default_rng(0)
    documents = [(np.arange(generator.integers(5, 60)) + generator.integers(0, VOCAB)) % (VOCAB - 1) + 1 for _ in range(200)]
    return {"th": pack_corpus(np.concatenate([np.append(document, EOS) for document in documents]), EOS, TOKENS)}


def batch_of(sources: dict[str, SequenceSet], device: torch.device) -> Batch:
    return collate(sources, [("th", number) for number in range(4)], device)


def autocast(dtype: str, device: torch.device):
    return precision(TrainConfig(steps=1, dtype=dtype), device)


def mixture(sources: dict[str, SequenceSet], config: TrainConfig = CONFIG) -> Mixture:
    return Mixture({"th": sources["th"].num_sequences}, {"th": 1.0}, config.seed, None, config.total_samples)


def loss_and_gradients(model, batch: Batch, dtype: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the mean token loss, and the gradient of everything that trains, on the CPU."""
    with autocast(dtype, model.device):
        loss = TokenLoss(model)(batch) / len(batch.target_N)
    loss.backward()
    return loss.item(), {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0).item()


def test_losses_and_gradients_are_those_of_the_cpu(model, sources):
    expected, slow = loss_and_gradients(copy.deepcopy(model), batch_of(sources, CPU), "float32")
    found, fast = loss_and_gradients(copy.deepcopy(model).to(CUDA), batch_of(sources, CUDA), "float32")
    assert found == pytest.approx(expected, rel=1e-4)
    for name, gradient in slow.items():
        assert (fast[name] - gradient).norm() <= 1e-3 * gradient.norm(), name
    mixed, rough = loss_and_gradients(model.to(CUDA), batch_of(sources, CUDA), "bfloat16")
    assert mixed == pytest.approx(expected, rel=1e-2)
    assert min(cosine(rough[name], gradient) for name, gradient in slow.items()) > 0.98


@pytest.mark.parametrize("dtype", DTYPES)
def test_packed_documents_do_not_see_each_other(model, sources, dtype):
    model.to(CUDA)
    ids_BT, places_BT = batch_of(sources, CUDA).input_ids_BT, batch_of(sources, CUDA).position_ids_BT
    starts = (places_BT[0] == 0).nonzero().flatten().tolist()
    assert len(starts) > 3
    first, second = slice(starts[1], starts[2]), slice(starts[2], starts[3])
    changed_BT = ids_BT.clone()
    changed_BT[:, first] = (changed_BT[:, first] + 7) % VOCAB
    with torch.no_grad(), autocast(dtype, CUDA):
        before, after = (model(input_ids=ids, position_ids=places_BT, use_cache=False).logits.float()
                         for ids in (ids_BT, changed_BT))
        alone = model(input_ids=ids_BT[:1, second], use_cache=False).logits.float()
    assert (before[0, first] - after[0, first]).abs().max() > 0.1
    torch.testing.assert_close(after[0, second], before[0, second], rtol=0, atol=0)
    limit = 1e-4 if dtype == "float32" else 3e-2
    assert (before[0, second] - alone[0]).norm() < limit * alone[0].norm()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compact_gradients_are_slices_of_the_dense_ones(model, sources, dtype, checkpointing):
    neurons, batch = spread_neurons(model, 0.05), batch_of(sources, CUDA)
    model.to(CUDA).train()
    loss, dense = loss_and_gradients(copy.deepcopy(model), batch, dtype)
    worker = SoloWorker(CUDA.type, ExecutionConfig(activation_checkpointing=checkpointing))
    with trainable(model, TrainPolicy(kind="neurons"), neurons) as trained, prepared(model, worker):
        found, _ = loss_and_gradients(model, batch, dtype)
        gradients = {name: p.grad.cpu() for name, p in trained.compact.parameters.items()}
    assert found == pytest.approx(loss, rel=1e-5 if dtype == "float32" else 1e-3)
    for name, place in trained.slices.items():
        own = dense[name].index_select(place.dim, torch.from_numpy(place.index.copy()))
        if dtype == "float32":
            assert (gradients[name] - own).norm() <= 1e-4 * own.norm(), name
        else:
            assert cosine(gradients[name], own) >= 0.99, name


def test_neurons_train_in_bfloat16_as_in_float32_and_nothing_else_moves(model, sources):
    neurons, before = spread_neurons(model, 0.05), tensor_digests(model)
    losses = {}
    for dtype in DTYPES:
        config = TrainConfig(steps=20, batch_sequences=4, sequence_tokens=TOKENS, learning_rate=3e-3, dtype=dtype)
        pack, report, proof = train_neurons(model, neurons, sources["th"], config, SoloWorker(CUDA.type), NullTracker())
        assert model.device.type == CUDA.type
        assert tensor_digests(model) == before
        assert proof.holds
        assert not proof.unmoved_inside
        assert pack.neurons == neurons
        losses[dtype] = report.losses
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["bfloat16"][-1] < losses["bfloat16"][0] - 0.05


def selected(model):
    """Return each language's neurons by a model, found where the model is."""
    generator = np.random.default_rng(5)
    texts = {code: generator.integers(first, first + 150, (12, 96)) for code, first in (("th", 1), ("vi", 151))}
    config = DetectionConfig(window_tokens=96, windows_per_language=12)
    stats = collect_importance(model, {code: Windows.whole(ids) for code, ids in texts.items()}, config, NullTracker())
    return select_neurons(stats, describe(model), SelectionConfig(top_frac=0.05))


def jaccard(one, other) -> float:
    pairs = [{(key, index) for key, indices in chosen.indices.items() for index in indices.tolist()} for chosen in (one, other)]
    return len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1])


def test_detection_selects_the_neurons_that_the_cpu_selects(model):
    expected, found = selected(model), selected(copy.deepcopy(model).to(CUDA))
    for code, neurons in expected.items():
        assert neurons.count > 10
        assert jaccard(neurons, found[code]) >= 0.95
    selected(copy.deepcopy(model).to(CUDA, torch.bfloat16))  # runs; another precision may rank otherwise


@pytest.mark.parametrize("query_key", ["first_order", "exact"])
def test_statistics_are_those_of_the_cpu(model, query_key):
    """In windows of several documents, with tokens that do not count and padding; gates and ranks may differ by rounding."""
    text = np.random.default_rng(3).integers(1, VOCAB, 1200)
    text[np.random.default_rng(4).choice(1200, 60, replace=False)] = EOS
    config = DetectionConfig(window_tokens=96, windows_per_language=11, query_key=query_key)
    windows = {"th": cut_windows(text, EOS, config, "th")}
    slow, fast = (collect_importance(copy.deepcopy(model).to(device), windows, config, NullTracker(), batch_windows=4)
                  for device in (CPU, CUDA))
    assert fast.sites == slow.sites == ("ffn", "v", "q", "k")
    for key, part in slow.parts.items():
        found = vars(fast[key])
        np.testing.assert_array_equal(found["windows"], part.windows)
        np.testing.assert_array_equal(found["tokens"], part.tokens)
        for name in ("total", "squares"):
            np.testing.assert_allclose(found[name], getattr(part, name), rtol=2e-3, err_msg=f"{key} {name}")
        for name in ("histogram", "hits", "released", "active"):
            counts, own = getattr(part, name), found[name]
            assert own.dtype == counts.dtype
            assert np.abs(own - counts).sum() <= 0.01 * counts.sum(), f"{key} {name}"
        assert found["histogram"].sum() == part.histogram.sum()
        assert found["hits"].sum() == part.hits.sum()


def test_an_importance_that_is_not_finite_is_named_and_the_gpu_goes_on(model):
    config, ids = DetectionConfig(window_tokens=96), np.random.default_rng(5).integers(1, VOCAB, (6, 96))
    ids[ids == 7], ids[4, 3] = 8, 7
    broken = copy.deepcopy(model).to(CUDA)
    with torch.no_grad():
        broken.model.embed_tokens.weight[7] = torch.nan
    with pytest.raises(DataError, match=r"layer 0 \(.*\) in window 14 of 'th'"):
        collect_importance(broken, {"th": Windows.whole(ids, 10)}, config, NullTracker(), batch_windows=2)
    collect_importance(model.to(CUDA), {"th": Windows.whole(ids)}, config, NullTracker())


def test_a_stored_model_is_asked_as_on_the_cpu(model, tokenizer, tmp_path):
    checkpoint = Checkpoint.save(tmp_path, model, tokenizer)
    texts, prompts = ["Budi tinggal di Jakarta.", "Jakarta " * 60], ["Budi", "Jakarta tinggal", "di"]
    slow, fast = (LocalGenerator(checkpoint.load_for(device), tokenizer) for device in (CPU, CUDA))
    assert fast.rolling_loglikelihoods(texts) == pytest.approx(slow.rolling_loglikelihoods(texts), rel=1e-4)
    assert fast.complete(prompts, 12) == slow.complete(prompts, 12)


def test_stages_of_detection_and_evaluation_make_what_they_make_on_the_cpu(miniature, tmp_path):
    """Needs what the stages need; the others of this file cover their rooms."""
    pytest.importorskip("sea_ray.stages.detection")
    pytest.importorskip("sea_ray.stages.evaluation")
    plan, compose = pytest.importorskip("sea_ray.plan"), pytest.importorskip("sea_ray.launch.compose")
    config = compose.compose_experiment([*miniature, "evaluation.tasks=[text,exam,arithmetic]", "cluster.training.device=cuda"])
    first = SoloPlatform(Store(str(tmp_path / "parents")))
    corpus = first.run(plan.corpus(config))
    base = first.run(plan.base(config, corpus))
    made = []
    for device in (CPU, CUDA):
        store, worker = Store(str(tmp_path / device.type)), SoloWorker(device.type)
        stages = plan.detection(config, base, corpus), plan.evaluation(config, "base", base, corpus, chat=False)
        made.append([run_stage(stage, store, worker, NullTracker()) for stage in stages])
    (slow, slow_figures), (fast, fast_figures) = made
    assert fast.fingerprint == slow.fingerprint
    assert fast.record["execution"]["device"] == CUDA.type
    parts = [ImportanceStats.load(artifact.folder).parts for artifact in (slow, fast)]
    for key, part in parts[0].items():
        np.testing.assert_allclose(parts[1][key].total, part.total, rtol=2e-3, err_msg=str(key))
    assert fast_figures.facts.keys() == slow_figures.facts.keys()
    bits = "text/bits_per_byte"
    assert fast_figures.facts[bits] == pytest.approx(slow_figures.facts[bits], rel=1e-3)


class Leaving(SoloWorker):
    """Is lost in a step."""

    def __init__(self, device, at):
        super().__init__(device, ExecutionConfig(checkpoint_every_steps=3))
        self.at, self.step = at, -1

    def sum(self, tensor):
        self.step += 1
        if self.step == self.at:
            raise KeyboardInterrupt
        return tensor


@pytest.mark.parametrize("goes_on", [CUDA.type, "cpu"])
def test_a_state_saved_on_a_gpu_goes_on_with_the_next_loss(model, sources, tmp_path, goes_on):
    unfinished = Store(str(tmp_path)).unfinished(StageKey(kind="base", name="base", config={}))

    def run(own, worker, saved=True):
        if not saved:
            return train(own, sources, mixture(sources), CONFIG, worker, NullTracker())
        with closing(TrainingStates(unfinished, worker, NullTracker())) as states:
            return train(own, sources, mixture(sources), CONFIG, worker, NullTracker(), states=states)

    expected = run(copy.deepcopy(model), SoloWorker(CUDA.type), saved=False)
    with pytest.raises(KeyboardInterrupt):
        run(copy.deepcopy(model), Leaving(CUDA.type, 7))
    report = run(model, SoloWorker(goes_on))
    assert report.resumed_step == 6
    assert report.losses[:6] == pytest.approx(expected.losses[:6], rel=1e-4)
    assert report.losses[6:] == pytest.approx(expected.losses[6:], rel=1e-3)


@pytest.fixture(scope="module")
def tokenizer():
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    plain.train_from_iterator(["Budi tinggal di Jakarta."], trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|endoftext|>")


def test_the_serving_engine_answers_as_on_the_cpu(model, tokenizer):
    generator = np.random.default_rng(2)
    prompts = [tuple(generator.integers(1, 250, length).tolist()) for length in (3, 40, 9, 71, 28, 5)]
    requests = [Request(prompt_ids=ids, max_new_tokens=20, score_prompt=True, top_logprobs=1) for ids in prompts]
    answers = []
    for device in (CPU, CUDA):
        with closing(TextEngine(copy.deepcopy(model).to(device), tokenizer, max_batch=4, prefill_tokens=128)) as engine:
            answers.append([future.result(timeout=60) for future in engine.submit(requests)])
    for slow, fast in zip(*answers, strict=True):
        assert fast.token_ids == slow.token_ids
        for asked in ("logprobs", "prompt_logprobs"):
            own, other = ([score.logprob for score in getattr(answer, asked) if score] for answer in (fast, slow))
            assert len(own) >= 1
            assert own == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_over_a_large_vocabulary_never_holds_all_logits(dtype):
    num_targets, vocab = 8192, 151_936
    torch.manual_seed(0)
    hidden_ND = torch.randn(num_targets, 64, device=CUDA, requires_grad=True)
    weight_VD = (0.1 * torch.randn(vocab, 64, device=CUDA)).requires_grad_()
    target_N = torch.randint(vocab, (num_targets,), device=CUDA)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with autocast(dtype, CUDA):
        loss = chunked_cross_entropy(hidden_ND, weight_VD, target_N)
    loss.backward()
    taken, whole = torch.cuda.max_memory_allocated() - before, 4 * num_targets * vocab
    assert taken < 0.25 * whole, f"{taken / 2**20:.0f} MiB of {whole / 2**20:.0f} MiB"
    with torch.no_grad():
        some = torch.nn.functional.cross_entropy((hidden_ND[:512] @ weight_VD.T), target_N[:512], reduction="sum").item()
        with autocast(dtype, CUDA):
            found = chunked_cross_entropy(hidden_ND[:512], weight_VD, target_N[:512]).item()
    assert found == pytest.approx(some, rel=1e-4 if dtype == "float32" else 1e-3)


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is None, reason="liger-kernel is not installed")
@pytest.mark.parametrize("kind", ["all", "neurons"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_kernels_compute_the_same_and_leave_with_the_training(model, sources, kind, dtype):
    batch, neurons = batch_of(sources, CUDA), spread_neurons(model, 0.05) if kind == "neurons" else None
    chosen, rotation = selected(model), modeling_qwen2.apply_rotary_pos_emb
    model.to(CUDA).train()
    found = {}
    for fused in (False, True):
        own = copy.deepcopy(model)
        with (trainable(own, TrainPolicy(kind=kind), neurons),
              prepared(own, SoloWorker(CUDA.type, ExecutionConfig(fused_kernels=fused)))):
            assert (modeling_qwen2.apply_rotary_pos_emb is rotation) != fused
            found[fused] = loss_and_gradients(own, batch, dtype)
    (loss, gradients), (fused_loss, fused_gradients) = found[False], found[True]
    assert fused_loss == pytest.approx(loss, rel=1e-4 if dtype == "float32" else 5e-3)
    assert fused_gradients.keys() == gradients.keys()
    worst = {name: cosine(fused_gradients[name], gradient) for name, gradient in gradients.items()}
    assert min(worst.values()) > (0.9999 if dtype == "float32" else 0.98), min(worst, key=worst.get)
    for code, of_language in selected(own.eval()).items():  # detection reads queries and keys that Liger's rotation would turn
        assert jaccard(of_language, chosen[code]) >= 0.95
