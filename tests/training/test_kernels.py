"""What a training changes about its model's computation is gone afterwards."""

import sys
import types
from types import SimpleNamespace

import pytest
import torch
from transformers.models.qwen2 import modeling_qwen2

from sea_ray.errors import ConfigError
from sea_ray.training.config import ExecutionConfig
from sea_ray.training.engine import SoloWorker
from sea_ray.training.kernels import prepared

FUSED = ExecutionConfig(fused_kernels=True)


@pytest.fixture
def liger(monkeypatch):
    """A package that replaces what Liger replaces, in the same places."""
    def apply(model, **_):
        modeling_qwen2.apply_rotary_pos_emb = modeling_qwen2.Qwen2MLP = object()
        for layer in model.model.layers:
            layer.mlp.forward = layer.mlp.in_place = object()

    package = types.ModuleType("liger_kernel")
    package.__spec__ = SimpleNamespace(name="liger_kernel")
    package.transformers = types.ModuleType("liger_kernel.transformers")
    package.transformers._apply_liger_kernel_to_instance = apply
    monkeypatch.setitem(sys.modules, "liger_kernel", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package.transformers)


def everything(model):
    return dict(vars(modeling_qwen2)), [sorted(vars(module)) for module in model.modules()]


@pytest.mark.usefixtures("liger")
def test_fused_kernels_leave_with_the_training(model):
    before = everything(model)
    mlp = model.model.layers[0].mlp
    mlp.up_proj.forward = own = mlp.up_proj.forward  # as neurons have it while they train
    with prepared(model, SimpleNamespace(device=torch.device("cuda"), execution=FUSED)):
        assert modeling_qwen2.Qwen2MLP is not before[0]["Qwen2MLP"]
        assert "in_place" in vars(mlp)
    assert mlp.up_proj.forward is own
    del mlp.up_proj.forward
    assert everything(model) == before


def test_fused_kernels_are_refused_without_a_gpu(model):
    with pytest.raises(ConfigError, match="need CUDA; this worker trains on cpu"), prepared(model, SoloWorker("cpu", FUSED)):
        pass
