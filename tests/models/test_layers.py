"""Convolutions of the heads and depthwise gradients against torch's, written-out forms and segmentation-models-pytorch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtl_plugins.models.backbones.resnet import relu_max_pool
from mtl_plugins.models.decode_heads.deeplabv3plus_head import ASPP, GlobalBatchNorm2d
from mtl_plugins.models.decode_heads.transformer_heads import pool_to_grid
from mtl_plugins.models.layers.depthwise_gradients import FastDepthwiseGradients, depthwise_conv2d
from mtl_plugins.models.layers.functional import (
    factored_upsampled_conv3x3,
    interpolation_matrix,
    plain_upsampled_conv3x3,
    upsampled_separable_conv3x3,
)
from mtl_plugins.models.utils.inference import fold_batch_norm
from tests.models.builders import build_head, build_segmentor, make_batch, value_and_gradients


@pytest.mark.parametrize(
    ('coarse', 'fine'), [((4, 4), (16, 16)), ((7, 9), (25, 33)), ((1, 1), (4, 4)), ((2, 3), (5, 12)), ((5, 4), (5, 4))]
)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_factored_upsampled_conv_is_the_plain_one(coarse, fine, dtype, tolerance):
    torch.manual_seed(0)
    tensors = [torch.randn(2, 6, *coarse), torch.randn(2, 3, *fine), torch.randn(5, 9, 3, 3) / 9, torch.randn(5)]
    tensors = [tensor.to(dtype) for tensor in tensors]
    plain = value_and_gradients(plain_upsampled_conv3x3, *tensors)
    factored = value_and_gradients(factored_upsampled_conv3x3, *tensors)
    for expected, found in zip(plain, factored, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize('normalised', [False, True])
def test_aspp_is_the_concatenation_of_its_branches(normalised):
    torch.manual_seed(0)
    aspp = ASPP(8, 6, (1, 2), pooled_relu=not normalised, fuse_norm=normalised).double()

    def concatenated(features):
        pooled = torch.einsum('oc,bc->bo', aspp.pooled_branch.conv.weight[:, :, 0, 0], features.mean((2, 3)))
        pooled = F.batch_norm(pooled, None, None, training=True)[:, :, None, None].expand(-1, -1, 7, 5)
        assert pooled.min() < 0
        pooled = pooled if normalised else pooled.relu()
        mixed = torch.cat([*(branch(features) for branch in aspp.branches), pooled], dim=1)
        mixed = F.conv2d(mixed, aspp.fuse.weight, aspp.fuse.bias)
        return F.batch_norm(mixed, None, None, training=True).relu() if normalised else mixed

    features = torch.randn(3, 8, 7, 5, dtype=torch.float64)
    for expected, found in zip(value_and_gradients(concatenated, features), value_and_gradients(aspp, features), strict=True):
        torch.testing.assert_close(found, expected)
    assert (aspp.fuse.bias is None) == normalised
    folded = copy.deepcopy(aspp.eval())
    fold_batch_norm(folded)
    torch.testing.assert_close(folded(features), aspp(features))


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('size', [(8, 8), (9, 7), (1, 1)])
def test_relu_max_pool(size, memory_format):
    torch.manual_seed(0)
    features = (torch.randn(2, 4, *size) - 1).contiguous(memory_format=memory_format)
    expected = value_and_gradients(lambda x: F.max_pool2d(F.relu(x), 3, stride=2, padding=1), features)
    for a, b in zip(value_and_gradients(relu_max_pool, features), expected, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(relu_max_pool(features), expected[0])


def test_one_image_normalises_by_running_statistics():
    """nn.BatchNorm2d raises on one value per channel: batch size 1 could not be trained."""
    norm = GlobalBatchNorm2d(3)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.running_var.copy_(torch.tensor([4.0, 4.0, 9.0]))
    features = torch.tensor([3.0, 2.0, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(norm.train()(features).flatten(), torch.tensor([1.0, 0.0, -1.0]), rtol=1e-5, atol=1e-5)
    assert norm.num_batches_tracked == 0
    several = torch.randn(4, 3, 1, 1)
    assert torch.equal(GlobalBatchNorm2d(3)(several), nn.BatchNorm2d(3)(several))


@pytest.mark.parametrize('source, size', [(1, 4), (3, 11), (5, 5), (16, 64), (7, 3)])
def test_what_stands_in_a_graph_for_interpolation_and_pooling_is_the_same(monkeypatch, source, size):
    """Exporters have no operations for them that hold for any size."""

    row, maps = torch.randn(1, 1, source, dtype=torch.float64), torch.randn(2, 3, source, size)
    interpolated = torch.nn.functional.interpolate(row, size=size, mode='linear', align_corners=False)
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, 4)
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    matrix = interpolation_matrix(source, size, torch.device('cpu'), torch.float64)
    torch.testing.assert_close(row @ matrix.t(), interpolated)
    torch.testing.assert_close(pool_to_grid(maps, 4), pooled)


@pytest.mark.parametrize('sizes', [((4, 4), (16, 16)), ((2, 3), (5, 12)), ((1, 1), (4, 4))])
def test_two_sources_need_no_concatenation(sizes):
    torch.manual_seed(0)
    coarse, fine = sizes
    shapes = [(2, 6, *coarse), (2, 3, *fine), (9, 1, 3, 3), (5, 9, 1, 1), (5,)]
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in shapes]

    def concatenated(features, skip, depthwise, pointwise, bias):
        upsampled = F.interpolate(features, size=skip.shape[-2:], mode='bilinear', align_corners=False)
        spread = F.conv2d(torch.cat([upsampled, skip], dim=1), depthwise, padding=1, groups=9)
        return F.conv2d(spread, pointwise, bias)

    expected = value_and_gradients(concatenated, *tensors)
    for a, b in zip(value_and_gradients(upsampled_separable_conv3x3, *tensors), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('config', [
    dict(type='ASPPHead', rates=(1, 2)),
    dict(type='DeepLabV3PlusHead', rates=(1, 2), skip_indices=(2, 1), num_convs=2),
    dict(type='TransformerSegHead', rates=(1, 2), num_tokens=9, num_heads=2, expansion=2),
])  # fmt: skip
def test_every_3x3_convolution_of_a_head_is_separable(config):
    head = build_head(**config, out_channels=5, channels=8, separable=True)
    convs = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    wide = [conv for conv in convs if conv.kernel_size == (3, 3)]
    assert wide and all(conv.groups == conv.in_channels and conv.dilation == conv.padding for conv in wide)
    assert {conv.dilation[0] for conv in wide} == {1, 2}
    plain = build_head(**config, out_channels=5, channels=8)
    assert len(convs) == len(wide) + sum(isinstance(module, nn.Conv2d) for module in plain.modules())


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
