import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.models.losses import (
    DepthRegressionLoss,
    SILogLoss,
    UpsampledCrossEntropyLoss,
    dense_losses,
    silog_loss,
    upsampled_cross_entropy,
)


def plain_cross_entropy(logits, target, class_weight=None):
    upsampled = F.interpolate(logits, size=target.shape[-2:], mode='bilinear', align_corners=False)
    return F.cross_entropy(upsampled, target.long(), class_weight, ignore_index=255)


def with_gradient(function, logits, target):
    logits = logits.detach().clone().requires_grad_()
    loss = function(logits, target)
    return loss.detach(), torch.autograd.grad(loss * 3, logits)[0]


@pytest.mark.parametrize('class_weight', [None, [0.5, 2.0, 0.0, 1.0, 3.0, 0.1, 0.7]])
@pytest.mark.parametrize('elements_at_once', [1, 500, 2**17])
@pytest.mark.parametrize(('coarse', 'fine'), [((8, 8), (32, 32)), ((13, 17), (49, 67)), ((1, 1), (4, 3)), ((6, 5), (6, 5))])
def test_cross_entropy_equals_upsampling_first(coarse, fine, elements_at_once, class_weight, monkeypatch):
    monkeypatch.setattr(dense_losses, 'ELEMENTS_AT_ONCE_CPU', elements_at_once)
    torch.manual_seed(0)
    logits = torch.randn(3, 7, *coarse) * 4
    target = torch.randint(0, 7, (3, *fine), dtype=torch.uint8)
    target[torch.rand(3, *fine) < 0.3] = 255
    target[1] = 255
    weights = None if class_weight is None else torch.tensor(class_weight)
    expected, expected_gradient = with_gradient(partial(plain_cross_entropy, class_weight=weights), logits, target)
    found, gradient = with_gradient(UpsampledCrossEntropyLoss(class_weight=class_weight), logits, target)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5 * expected_gradient.abs().max().item())


@pytest.mark.parametrize(('class_weight', 'label'), [(None, 255), ([1.0] * 5, 255), ([0.0, 1.0, 1.0, 1.0, 1.0], 0)])
def test_cross_entropy_without_a_pixel_that_counts_is_zero(class_weight, label):
    loss = UpsampledCrossEntropyLoss(class_weight=class_weight)
    value, gradient = with_gradient(loss, torch.randn(2, 5, 3, 3), torch.full((2, 9, 9), label))
    assert value == 0 and not gradient.any()
    assert not loss.state_dict()


def test_cross_entropy_of_half_precision_logits():
    torch.manual_seed(0)
    logits = torch.randn(1, 5, 4, 4).bfloat16()
    target = torch.randint(0, 5, (1, 16, 16))
    expected, expected_gradient = with_gradient(plain_cross_entropy, logits.float(), target)
    with torch.autocast('cpu', torch.bfloat16):
        found, gradient = with_gradient(upsampled_cross_entropy, logits, target)
    assert found.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, expected_gradient.bfloat16())


def test_cross_entropy_refuses_an_unknown_class():
    with pytest.raises((IndexError, RuntimeError), match='out of bounds'):
        upsampled_cross_entropy(torch.randn(1, 3, 2, 2), torch.full((1, 4, 4), 3, dtype=torch.uint8))


def silog_oracle(prediction, target, lambda_, reduction):
    """The definition in float64 NumPy, pixel by pixel."""
    prediction, target = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    groups = [slice(None)] if reduction == 'batch' else [slice(i, i + 1) for i in range(len(target))]
    losses = []
    for group in groups:
        valid = target[group] > 0
        if valid.any():
            error = np.log(target[group][valid]) - np.log(prediction[group][valid])
            losses.append(np.sqrt(error.var() + lambda_ * error.mean() ** 2))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize('reduction', ['batch', 'image'])
@pytest.mark.parametrize('lambda_', [0.0, 0.15, 1.0])
def test_silog_equals_the_oracle(lambda_, reduction):
    random = np.random.default_rng(0)
    prediction = random.uniform(0.5, 200, (3, 9, 11)).astype(np.float32)
    target = random.uniform(4, 300, (3, 9, 11)).astype(np.float32)
    target[random.random(target.shape) < 0.4] = 0
    target[2] = 0
    target[1, 1:] = 0
    loss = SILogLoss(lambda_=lambda_, reduction=reduction)
    found = loss(torch.tensor(prediction), torch.tensor(target), torch.tensor(target > 0))
    assert found.item() == pytest.approx(silog_oracle(prediction, target, lambda_, reduction), rel=1e-5)


def silog_case(case):
    """Prediction, target and the expected loss, if it is known."""
    prediction, target, log2 = torch.full((2, 3, 4), 11.0), torch.full((2, 3, 4), 20.0), math.sqrt(0.15) * math.log(2)
    target[0, 0] = 7.0
    if case == 'one image without':
        target[1] = 0
    elif case in ('nothing valid', 'one pixel'):
        target.zero_()
    elif case == 'prediction zero':
        prediction[0, 0, 0] = 0.0
    if case == 'one pixel':
        target[1, 2, 3] = 22.0
    if case in ('perfect', 'scaled'):
        prediction = target * (1 if case == 'perfect' else 2)
    return prediction, target, {'nothing valid': 0.0, 'perfect': 0.0, 'one pixel': log2, 'scaled': log2}.get(case)


@pytest.mark.parametrize('reduction', ['batch', 'image'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('case', ['nothing valid', 'one image without', 'one pixel', 'prediction zero', 'perfect', 'scaled'])
def test_silog_edge_cases(case, dtype, reduction):
    prediction, target, expected = silog_case(case)
    prediction = prediction.to(dtype).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        loss = silog_loss(prediction, target.to(dtype), target > 0, reduction=reduction)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite() and prediction.grad.isfinite().all()
    assert not prediction.grad[target == 0].any()
    assert expected is None or loss.item() == pytest.approx(expected, abs=1e-5)
    assert expected != 0 or (loss == 0 and not prediction.grad.any())


@pytest.mark.parametrize('reduction', ['batch', 'image'])
@pytest.mark.parametrize('norm', ['l1', 'l2'])
def test_depth_regression(norm, reduction):
    random = np.random.default_rng(0)
    prediction, target = random.normal(size=(2, 2, 5, 5))
    valid = random.random((2, 5, 5)) < 0.5
    difference = np.abs(prediction - target)[valid]
    expected = difference.mean() if norm == 'l1' else (difference**2).mean()
    found = DepthRegressionLoss(norm=norm)(torch.tensor(prediction), torch.tensor(target), torch.tensor(valid))
    assert found.item() == pytest.approx(expected, rel=1e-6)
    # By image: (mean of the first + mean of the second) / 2, and an image without a valid pixel does not count.
    power = 1 if norm == 'l1' else 2
    means = [(np.abs(prediction - target)[i][valid[i]] ** power).mean() for i in range(2)]
    maps = [np.concatenate([array, array[:1]]) for array in (prediction, target, valid)]
    maps[2][2] = False
    found = DepthRegressionLoss(norm=norm, reduction='image')(*map(torch.tensor, maps))
    assert found.item() == pytest.approx(sum(means) / 2, rel=1e-6)
    leaf = torch.full((1, 2, 2), torch.inf).requires_grad_()
    nothing = DepthRegressionLoss(norm=norm, reduction=reduction)(
        leaf, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)
    )
    nothing.backward()
    assert nothing == 0 and not leaf.grad.any()


def test_cross_entropy_keeps_nothing_at_full_resolution():
    """Four images of 19 x 64 x 64 upsampled logits would be kept by upsampling first; here the largest tensor kept is coarse."""
    kept = []
    logits = torch.randn(4, 19, 16, 16, requires_grad=True)
    target = torch.randint(0, 19, (4, 64, 64), dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        upsampled_cross_entropy(logits, target)
    assert kept and max(kept) <= logits.numel()
