"""Every system and every layer of its own computes on a GPU what it computes on a CPU, in half precision and compiled too."""

import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.evaluation.metrics import MultiTaskMetric
from mtl_plugins.models.backbones.resnet import POOLING, relu_max_pool
from mtl_plugins.models.layers.functional import factored_upsampled_conv3x3, plain_upsampled_conv3x3
from mtl_plugins.models.losses import dense_losses, upsampled_cross_entropy
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import OPTIM_WRAPPERS, TASK_UTILS
from tests.cuda.systems import (
    SYSTEMS,
    assert_predictions_agree,
    assert_trains_as_on_cpu,
    batch_for,
    build_system,
    pair,
    predict,
    sgd,
    train_steps,
)
from tests.models.builders import build_segmentor

pytestmark = pytest.mark.cuda
REAL = 'joint on ResNet-18'
JOINT, BRANCHED = 'joint_r18-d16_1xb16-32e', 'branched_r18-d16_1xb16-32e'
STRATEGIES = {
    'by loss': dict(type='UncertaintyWeights'),
    'by gradient': dict(type='GradNorm', place='parameters'),
    'exact': dict(type='AggregatedGradients', aggregator='UPGrad', place='parameters'),
    'with rows': dict(type='AggregatedGradients', aggregator='ConFIG', place='parameters'),
    'on features': dict(type='AggregatedGradients', aggregator='MGDA', place='features'),
}


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


def test_scores_are_those_of_the_predictions_on_the_cpu(data_root, device):
    model, samples, scores = build_system(JOINT, data_root).to(device).eval(), [], []
    for seed in range(3):
        batch = batch_for(model, seed)
        batch['targets']['depth'][1] = 0
        batch['metainfo'] = [dict(img_path=f'{4 * seed + i}.jpg', ori_shape=(60, 90)) for i in range(4)]
        samples += model.test_step(batch)
    assert all(sample.pred_depth_map.data.device.type == device.type for sample in samples)
    for those in (samples, [sample.cpu() for sample in samples]):
        metric = MultiTaskMetric()
        metric.process({}, [sample.to_dict() for sample in those])
        scores.append(metric.evaluate(len(those)))
    assert scores[1]['metrics_summary/semseg'] > 0 and scores[1]['metrics_summary/depth'] > 0
    assert scores[0] == pytest.approx(scores[1], rel=1e-9, nan_ok=True)


@pytest.fixture(params=itertools.product((JOINT, BRANCHED), STRATEGIES), ids='-'.join)
def balanced(request, data_root):
    system, name = request.param
    if STRATEGIES[name]['type'] == 'AggregatedGradients':
        pytest.importorskip('torchjd')
    model = build_system(system, data_root)
    model.task_balancing = TASK_UTILS.build(dict(STRATEGIES[name], tasks=list(model.tasks)))
    return model


def test_steps_with_task_balancing_are_those_of_the_cpu(balanced, device):
    """In float32: what is logged to 1e-3, weights to a hundredth of the largest movement."""
    assert_trains_as_on_cpu(balanced, device, steps=3, rel=1e-3, abs=1e-4)


def test_float16_with_task_balancing_is_near_float32(balanced, device):
    plain, half = pair(balanced.to(device), device)
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


@pytest.fixture
def to_compile(data_root, device):
    """The joint model on the device, for a compiler that knows none yet."""
    torch.compiler.reset()
    yield build_system(JOINT, data_root).to(device)
    torch.compiler.reset()


def test_compiled_training_takes_the_same_steps(to_compile, device):
    plain, compiled = pair(to_compile, device)
    compiled.compile_network()
    expected, found = train_steps(plain, sgd(plain), steps=3), train_steps(compiled, sgd(compiled), steps=3)
    for log, other in zip(expected, found, strict=True):
        assert other == pytest.approx(log, rel=1e-3, abs=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert_predictions_agree(predict(compiled), predict(plain), share=0.99, relative=2e-3)


@pytest.mark.parametrize('mode', ['default', 'reduce-overhead'])
def test_compiled_inference_predicts_the_same(to_compile, mode):
    train_steps(to_compile, sgd(to_compile))
    compiled = prepare_for_inference(to_compile, compile=dict(mode=mode))
    for seed in range(3):
        # From the third call on, a graph is replayed.
        assert_predictions_agree(predict(compiled, seed), predict(to_compile, seed), share=0.99, relative=2e-3)


LAYOUTS = (torch.contiguous_format, torch.channels_last)


def random(*shape, device, seed=0, layout=torch.contiguous_format):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)
    return (values.contiguous(memory_format=layout) if len(shape) == 4 else values).requires_grad_()


def assert_same(function, reference, inputs, tolerance=1e-4):
    """Value and gradients, to a share of the largest one."""
    results = []
    for each in (function, reference):
        output = each(*inputs)
        weights = torch.linspace(0.5, 1.5, output.numel(), device=output.device).view(output.shape)
        results.append((output, *torch.autograd.grad((output.float() * weights).sum(), inputs)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('elements', [None, 19 * 40 * 8])
def test_cross_entropy_in_one_pass(device, layout, elements, monkeypatch):
    if elements:
        # Several images and bands of rows.
        monkeypatch.setattr(dense_losses, 'ELEMENTS_AT_ONCE_GPU', elements)
    logits = random(3, 19, 9, 13, device=device, layout=layout)
    target = torch.randint(0, 19, (3, 33, 40), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    target[0, :5] = target[2] = 255
    target = target.to(device)
    for weight in (None, torch.linspace(0, 2, 19, device=device)):

        def plain(logits, weight=weight):
            wide = F.interpolate(logits, size=(33, 40), mode='bilinear', align_corners=False)
            return F.cross_entropy(wide, target.long(), weight, ignore_index=255)

        assert_same(partial(upsampled_cross_entropy, target=target, class_weight=weight), plain, [logits], 1e-5)
    nothing = upsampled_cross_entropy(logits, torch.full_like(target, 255))
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, logits)[0].any()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_relu_and_pooling(device, layout, dtype):
    features = random(2, 8, 17, 22, device=device, layout=layout).detach().to(dtype).requires_grad_()
    assert_same(relu_max_pool, lambda features: F.max_pool2d(features.relu(), **POOLING), [features], 1e-6)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_factored_convolution(device, layout):
    inputs = [
        random(2, 24, 8, 11, device=device, layout=layout),
        random(2, 5, 32, 44, device=device, layout=layout, seed=1),
        random(16, 29, 3, 3, device=device, layout=layout, seed=2),
        random(16, device=device, seed=3),
    ]
    assert_same(factored_upsampled_conv3x3, plain_upsampled_conv3x3, inputs)
