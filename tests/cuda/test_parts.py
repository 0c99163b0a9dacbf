"""Losses and layers with an implementation of their own, on a GPU, against the plain one of torch."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.models.backbones.resnet import POOLING, relu_max_pool
from mtl_plugins.models.decode_heads.deeplabv3plus_head import factored_upsampled_conv3x3, plain_upsampled_conv3x3
from mtl_plugins.models.losses import dense_losses, silog_loss, upsampled_cross_entropy

pytestmark = pytest.mark.cuda
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


@pytest.mark.parametrize('reduction', ['batch', 'image'])
def test_silog_is_that_of_the_cpu(device, reduction):
    prediction = (random(3, 20, 24, device='cpu').exp() * 10).detach()
    target = (random(3, 20, 24, device='cpu', seed=1).exp() * 10).detach()
    valid = random(3, 20, 24, device='cpu', seed=2) > 0
    valid[1] = False
    results = []
    for place in ('cpu', device):
        on = prediction.to(place).requires_grad_()
        loss = silog_loss(on, target.to(place), valid.to(place), reduction=reduction)
        results.append((loss.cpu(), torch.autograd.grad(loss, on)[0].cpu()))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


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
