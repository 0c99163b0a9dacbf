"""Depthwise convolutions with fast gradients against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtl_plugins.models.layers.depthwise_gradients import FastDepthwiseGradients, depthwise_conv2d
from tests.models.builders import build_segmentor, make_batch
from tests.models.test_layers import value_and_gradients

GEOMETRIES = [
    # kernel, stride, padding, dilation
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 3), (1, 1), (2, 2), (2, 2)),
    ((5, 5), (1, 1), (4, 4), (2, 2)),
    ((3, 3), (1, 1), (12, 12), (12, 12)),
    ((5, 5), (2, 2), (0, 0), (1, 1)),
    ((3, 3), (2, 2), (2, 2), (2, 2)),
    ((3, 5), (2, 1), (1, 0), (1, 2)),
    ((3, 3), (1, 1), (4, 4), (1, 1)),
]


@pytest.mark.parametrize('geometry', GEOMETRIES, ids=str)
def test_the_gradients_are_those_of_torch(geometry):
    torch.manual_seed(0)
    kernel, *rest = geometry
    inputs, weight = torch.randn(2, 6, 11, 13, dtype=torch.float64), torch.randn(6, 1, *kernel, dtype=torch.float64)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    expected = value_and_gradients(lambda x, w: F.conv2d(x, w, None, *rest, 6), inputs, weight)
    found = value_and_gradients(lambda x, w: depthwise_conv2d(x, w, *rest), inputs, weight)
    assert torch.equal(found[0], expected[0])
    for a, b in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * b.abs().max().item())


@pytest.mark.parametrize('geometry', GEOMETRIES[1:6:2], ids=str)
def test_half_precision_is_no_less_exact_than_torch(geometry):
    torch.manual_seed(0)
    kernel, *rest = geometry
    inputs, weight = torch.randn(2, 6, 11, 13), torch.randn(6, 1, *kernel)
    exact = value_and_gradients(
        lambda x, w: F.conv2d(x, w, None, *rest, 6), inputs.bfloat16().double(), weight.bfloat16().double()
    )
    with torch.autocast('cpu', torch.bfloat16):
        found = value_and_gradients(lambda x, w: depthwise_conv2d(x, w, *rest).float(), inputs, weight)
    assert found[1].dtype == found[2].dtype == torch.float32
    for a, b in zip(found, exact, strict=True):
        assert (a - b).abs().max() < 2e-2 * b.abs().max()


def test_only_depthwise_convolutions_that_learn_are_concerned():
    torch.manual_seed(0)
    depthwise, plain = nn.Conv2d(4, 4, 3, padding='same', groups=4, bias=False), nn.Conv2d(4, 8, 3, groups=2)
    features = torch.randn(1, 4, 9, 9)
    with FastDepthwiseGradients():
        names = [type(layer(features).grad_fn).__name__ for layer in (depthwise, plain)]
        assert names == ['ConvolutionBackward0'] * 2
        depthwise.padding = 1
        assert 'DepthwiseConv' in type(depthwise(features).grad_fn).__name__
        assert F.conv2d(features, weight=depthwise.weight, groups=4).grad_fn.name() == '_DepthwiseConvBackward'
        with torch.no_grad():
            assert depthwise(features).grad_fn is None


def test_a_model_learns_the_same_with_them():
    head = dict(type='DeepLabV3PlusHead', channels=8, rates=(1, 2), skip_channels=4, separable=True)
    backbone = dict(type='TimmBackbone', name='mobilenetv3_small_050', output_stride=16)
    gradients, losses = [], []
    for fast in (False, True):
        torch.manual_seed(0)
        model = build_segmentor(decode_head=dict(type='JointHead', head=head), backbone=backbone, fast_depthwise=fast)
        batch = model.data_preprocessor(make_batch((64, 96)))
        total, _ = model.parse_losses(model(**batch, mode='loss'))
        total.backward()
        losses.append(total.detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert torch.equal(*losses)
    assert not torch.equal(*gradients)
    assert (gradients[1] - gradients[0]).norm() < 1e-4 * gradients[0].norm()
