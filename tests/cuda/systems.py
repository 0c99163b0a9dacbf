"""The systems, tiny, in pairs of the same weights: one on the CPU, one on the device."""

import copy
import functools
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mtl_plugins.registry import MODELS
from tests.models.builders import make_batch
from tests.tiny import CONFIGS, tiny_config
from tests.tools.test_systems import SYSTEMS as TRAINED_SYSTEMS

SYSTEMS = ('joint_r18-d16_1xb16-32e', *TRAINED_SYSTEMS)
SIZE = (64, 96)


def build_system(system: str, data_root: Path) -> nn.Module:
    """The model of a config with initial weights, in training mode."""
    return copy.deepcopy(_built(system, data_root))


@functools.cache
def _built(system: str, data_root: Path) -> nn.Module:
    (path,) = CONFIGS.glob(f'*/{system}_miniscapes-256x256.py')
    torch.manual_seed(0)
    model = MODELS.build(tiny_config(data_root, data_root, path).model)
    model.init_weights()
    return model.train()


def pair(model: nn.Module, device: torch.device) -> tuple[nn.Module, nn.Module]:
    return model, copy.deepcopy(model).to(device)


def batch_for(model: nn.Module, seed: int = 0) -> dict:
    return make_batch(SIZE, batch=4, tasks=tuple(model.label_names), seed=seed)


def sgd(model: nn.Module) -> OptimWrapper:
    """Steps that are proportional to the gradients: Adam's would show the sign of what is only rounding."""
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))


def train_steps(model: nn.Module, wrapper: OptimWrapper, steps: int = 2) -> list[dict[str, float]]:
    logs = []
    for step in range(steps):
        torch.manual_seed(step)
        logs.append(model.train_step(batch_for(model, step), wrapper))
    return [{name: float(value) for name, value in log.items()} for log in logs]


def assert_trains_as_on_cpu(
    model: nn.Module, device: torch.device, steps: int, **tolerance: float
) -> tuple[nn.Module, nn.Module]:
    """Train a model and its copy on the device; what they log is equal to ``tolerance``, weights to a hundredth of the largest
    movement. Returns both."""
    cpu, gpu = pair(model, device)
    before = {name: value.clone() for name, value in cpu.state_dict().items()}
    expected, found = train_steps(cpu, sgd(cpu), steps), train_steps(gpu, sgd(gpu), steps)
    for log, other in zip(expected, found, strict=True):
        assert other == pytest.approx(log, **tolerance)
    state = gpu.state_dict()
    assert all(value.device.type == device.type for value in state.values())
    for name, value in cpu.state_dict().items():
        if value.is_floating_point():
            atol = 1e-2 * (value - before[name]).abs().max().item() + 1e-6
            torch.testing.assert_close(
                state[name].cpu(), value, rtol=1e-4, atol=atol, msg=lambda text, name=name: f'{name}: {text}'
            )
    return cpu, gpu


def predict(model: nn.Module, seed: int = 9) -> dict[str, Tensor]:
    model.eval()
    with torch.no_grad():
        inputs = model.data_preprocessor(batch_for(model, seed))['inputs']
        predictions = model.predict_arrays(inputs)
    assert all(values.device == inputs.device for values in predictions.values())
    return {name: values.cpu() for name, values in predictions.items()}


def assert_predictions_agree(found: dict[str, Tensor], expected: dict[str, Tensor], share: float, relative: float) -> None:
    """``share`` of the labels are the same, and of the depths nearer than ``relative``."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype and found[name].shape == values.shape
        if name == 'semseg':
            agree = found[name] == values
        else:
            agree = (found[name] - values).abs() <= relative * values.abs()
        assert agree.float().mean() >= share, name
