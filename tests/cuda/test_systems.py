"""Every system computes on a GPU what it computes on a CPU, and trains in half precision."""

import math

import pytest
import torch

from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import OPTIM_WRAPPERS
from tests.cuda.systems import (
    SYSTEMS,
    assert_predictions_agree,
    assert_trains_as_on_cpu,
    build_system,
    pair,
    predict,
    sgd,
    train_steps,
)
from tests.models.builders import build_segmentor

pytestmark = pytest.mark.cuda
REAL = 'joint on ResNet-18'


@pytest.fixture(params=[*SYSTEMS, REAL])
def model(request, data_root):
    if request.param == REAL:
        torch.manual_seed(0)
        return build_segmentor().train()
    return build_system(request.param, data_root)


def test_two_steps_and_predictions_are_those_of_the_cpu(model, device):
    """In float32 without TF32: losses to 2e-4, weights to a hundredth of the largest movement, 99.5 % of the predictions."""
    cpu, gpu = assert_trains_as_on_cpu(model, device, steps=2, rel=2e-4, abs=1e-5)
    assert_predictions_agree(predict(gpu), predict(cpu), share=0.995, relative=1e-3)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_trains_near_float32(model, device, dtype):
    """Its losses are those of float32 to 5 %, stay finite, and the loss scale is that of the beginning."""
    cpu, gpu = pair(model, device)
    optimizer = torch.optim.Adam(gpu.parameters(), lr=1e-3, fused=True)
    kind = dict(type='Bf16OptimWrapper') if dtype == 'bfloat16' else dict(type='AmpOptimWrapper', dtype=dtype)
    scale = {} if dtype == 'bfloat16' else dict(loss_scale=dict(init_scale=256.0))
    wrapper = OPTIM_WRAPPERS.build(dict(kind, **scale, optimizer=optimizer))
    expected, logs = train_steps(cpu, sgd(cpu), steps=1), train_steps(gpu, wrapper, steps=4)
    # Normalised by those of a batch, activations of a tiny network are noisy in eight bits.
    assert logs[0]['loss'] == pytest.approx(expected[0]['loss'], rel=0.05)
    assert all(math.isfinite(value) for log in logs for value in log.values())
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in gpu.parameters())
    if scale:
        assert wrapper.loss_scaler.get_scale() == 256.0


@pytest.mark.parametrize(
    ('dtype', 'share', 'relative'), [(torch.float32, 0.995, 1e-3), (torch.bfloat16, 0.9, 0.05), (torch.float16, 0.98, 0.02)]
)
def test_the_folded_copy_predicts_as_the_model_on_the_cpu(model, device, dtype, share, relative):
    cpu, gpu = pair(model, device)
    # Running statistics other than the initial ones.
    train_steps(cpu, sgd(cpu), steps=2)
    gpu.load_state_dict(cpu.state_dict())
    fast = prepare_for_inference(gpu, dtype=dtype)
    assert_predictions_agree(predict(fast), predict(cpu), share, relative)
