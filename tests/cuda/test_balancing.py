"""Task balancing on a GPU takes the step of the CPU."""

import math

import pytest
import torch

from mtl_plugins.registry import OPTIM_WRAPPERS, TASK_UTILS
from tests.cuda.systems import assert_trains_as_on_cpu, build_system, pair, sgd, train_steps

pytestmark = pytest.mark.cuda
STRATEGIES = {
    'by loss': dict(type='UncertaintyWeights'),
    'by gradient': dict(type='GradNorm', place='parameters'),
    'exact': dict(type='AggregatedGradients', aggregator='UPGrad', place='parameters'),
    'with rows': dict(type='AggregatedGradients', aggregator='ConFIG', place='parameters'),
    'on features': dict(type='AggregatedGradients', aggregator='MGDA', place='features'),
}


@pytest.fixture(params=['joint_r18-d16_1xb16-32e', 'branched_r18-d16_1xb16-32e'])
def system(request):
    return request.param


@pytest.fixture(params=STRATEGIES)
def model(request, system, data_root):
    strategy = STRATEGIES[request.param]
    if strategy['type'] == 'AggregatedGradients':
        pytest.importorskip('torchjd')
    model = build_system(system, data_root)
    model.task_balancing = TASK_UTILS.build(dict(strategy, tasks=list(model.tasks)))
    return model


def test_the_steps_are_those_of_the_cpu(model, device):
    """In float32: what is logged to 1e-3, weights to a hundredth of the largest movement."""
    assert_trains_as_on_cpu(model, device, steps=3, rel=1e-3, abs=1e-4)


def test_float16_with_a_loss_scale_is_near_float32(model, device):
    plain, half = pair(model.to(device), device)
    expected = train_steps(plain, sgd(plain), steps=1)[0]
    optimizer = torch.optim.Adam(half.parameters(), lr=1e-3, fused=True)
    scale = dict(init_scale=256.0)
    wrapper = OPTIM_WRAPPERS.build(dict(type='AmpOptimWrapper', dtype='float16', loss_scale=scale, optimizer=optimizer))
    logs = train_steps(half, wrapper, steps=3)
    assert all(math.isfinite(value) for log in logs for value in log.values())
    # The scale is out of what is logged of the gradients.
    norms = {name: value for name, value in expected.items() if name.startswith('balance/norm') or name == 'loss'}
    assert {name: logs[0][name] for name in norms} == pytest.approx(norms, rel=0.1, abs=1e-3)
    assert wrapper.loss_scaler.get_scale() == 256.0
