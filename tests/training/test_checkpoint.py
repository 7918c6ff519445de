"""A checkpoint is a plain Hugging Face folder, and nothing else is taken for one."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.untouched import tensor_digests
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.config import ModelConfig
from sea_ray.training.model import new_model


@pytest.fixture
def tokenizer(toy):
    words = {f"w{number}": number for number in range(toy.vocab)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), eos_token="w0")


def test_what_is_saved_loads_with_equal_bytes_here_and_in_transformers(tmp_path, model, tokenizer):
    checkpoint = Checkpoint.save(tmp_path, model, tokenizer)
    loaded = checkpoint.load_model()
    assert tensor_digests(loaded) == tensor_digests(model) == checkpoint.tensor_digests()
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, model(ids).logits)
    assert checkpoint.load_tokenizer().eos_token == "w0"


def test_a_checkpoint_is_asked_in_float32_but_on_an_accelerator_if_it_is_stored_in_bfloat16(tmp_path, model, tokenizer):
    wide = Checkpoint.save(tmp_path / "wide", model, tokenizer)
    narrow = Checkpoint.save(tmp_path / "narrow", model.to(torch.bfloat16), tokenizer)
    accelerator = torch.device("meta")
    assert {wide.load_for(device).dtype for device in (torch.device("cpu"), accelerator)} == {torch.float32}
    assert narrow.load_for(torch.device("cpu")).dtype == torch.float32
    assert (narrow.load_for(accelerator).dtype, narrow.load_for(accelerator).device) == (torch.bfloat16, accelerator)


def test_one_changed_value_changes_one_digest(model):
    before = tensor_digests(model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] += 1e-3
    after = tensor_digests(model)
    assert [name for name in before if before[name] != after[name]] == ["model.layers.1.mlp.up_proj.weight"]


def test_pickled_weights_and_other_folders_are_refused(tmp_path, model):
    with pytest.raises(DataError, match=r"no config\.json"):
        Checkpoint.load(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="pickled weights are never read"):
        Checkpoint.from_hub_or_path(str(tmp_path))


def test_a_name_that_is_neither_folder_nor_hub_id_is_refused_without_asking_the_hub(tmp_path):
    for name in ("qwen", str(tmp_path / "gone"), "./a/b", "a/b/c"):
        with pytest.raises(ConfigError, match="no folder"):
            Checkpoint.from_hub_or_path(name)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path, shape, tokenizer):
    with pytest.raises(ConfigError, match="don't belong together"):
        Checkpoint.save(tmp_path, new_model(shape, 10, 0, 0), tokenizer)


def test_the_seed_decides_the_first_weights_and_leaves_the_process_alone(shape):
    state = torch.random.get_rng_state()
    one, same, other = (tensor_digests(new_model(shape, 61, seed, 0)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one == same != other


def test_first_weights_have_a_deviation_that_suits_the_width(shape):
    model = new_model(shape, 5000, 0, 0)
    assert float(model.get_input_embeddings().weight.detach().std()) == pytest.approx(shape.d_model**-0.5, rel=0.03)
    assert float(model.model.layers[0].mlp.up_proj.weight.detach().std()) == pytest.approx(shape.d_model**-0.5, rel=0.1)


def test_a_model_takes_contexts_up_to_its_longest(shape):
    model = new_model(shape, 61, 0, 0)
    assert model.config.max_position_embeddings == 64
    assert model(torch.zeros(1, 64, dtype=torch.long)).logits.shape == (1, 64, 61)


@pytest.mark.parametrize(("wrong", "name"), [({"num_heads": 3}, "d_model"), ({"num_kv_heads": 3}, "num_kv_heads"),
                                             ({"num_layers": 0}, "num_layers")])
def test_impossible_shapes_are_refused_by_name(wrong, name):
    with pytest.raises(ConfigError, match=name):
        ModelConfig(**wrong)
