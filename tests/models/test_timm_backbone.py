"""Backbones of timm, and the neck that makes a pyramid of a plain transformer."""

import pytest
import torch

from mtl_plugins.models.backbones import TimmBackbone
from mtl_plugins.models.necks import PlainViTPyramid
from tests.models.builders import build_segmentor, make_batch


@pytest.mark.parametrize(
    ('backbone', 'neck'),
    [
        (dict(name='convnext_atto'), None),
        (dict(name='convnext_atto', output_stride=16), None),
        (dict(name='efficientnet_lite0', output_stride=16), None),
        (dict(name='vit_tiny_patch16_224', options=dict(depth=2)), dict(type='PlainViTPyramid')),
    ],
)
def test_every_parameter_learns_at_any_size(backbone, neck):
    model = build_segmentor(backbone=dict(type='TimmBackbone', **backbone), neck=neck)
    for size in ((64, 64), (97, 131)):
        model.zero_grad()
        total, _ = model.parse_losses(model(**model.data_preprocessor(make_batch(size)), mode='loss'))
        total.backward()
        assert total.isfinite()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ('name', 'output_stride', 'with_stem', 'strides'),
    [
        ('resnet50', 32, True, (2, 4, 8, 16, 32)),
        ('resnet50', 16, False, (None, 4, 8, 16, 16)),
        ('resnet50', 8, False, (None, 4, 8, 8, 8)),
        ('convnext_atto', None, False, (None, 4, 8, 16, 32)),
        ('convnext_atto', 8, False, (None, 4, 8, 8, 8)),
        ('efficientnet_lite0', 16, True, (2, 4, 8, 16, 16)),
        ('vgg11_bn', None, True, (2, 4, 8, 16, 32)),  # has a map at stride 1 too, which is no part of the pyramid
        ('swin_tiny_patch4_window7_224', None, False, (None, 4, 8, 16, 32)),  # channels last inside
        ('vit_tiny_patch16_224', 16, False, (None, None, None, 16, None)),
    ],
)
@torch.no_grad()
def test_pyramid(name, output_stride, with_stem, strides):
    options = dict(depths=(1, 1, 1, 1)) if 'swin' in name else dict(depth=1) if 'vit' in name else None
    backbone = TimmBackbone(name=name, output_stride=output_stride, with_stem=with_stem, options=options)
    features = backbone(torch.randn(2, 3, 64, 128))
    shapes = zip(backbone.out_channels, strides, strict=True)
    expected = [stride and (width, 64 // stride, 128 // stride) for width, stride in shapes]
    assert [feature if feature is None else tuple(feature.shape[1:]) for feature in features] == expected
    assert backbone.output_stride == strides[4] or strides[4] is None


@torch.no_grad()
def test_size_divisor_admits_odd_sizes():
    options = dict(depths=(1, 1, 1, 1))
    backbone = TimmBackbone(name='swin_tiny_patch4_window7_224', size_divisor=32, options=options).eval()
    assert backbone(torch.randn(1, 3, 97, 131))[1].shape[-2:] == (128 // 4, 160 // 4)


WIDTHS = (None, None, None, 32, None)


def features(index=3, size=(7, 9)):
    return [torch.randn(2, 32, *size) if level == index else None for level in range(5)]


def test_strides_and_widths():
    neck = PlainViTPyramid(in_channels=WIDTHS)
    given = features()
    pyramid = neck(given)
    shapes = [(8, 28, 36), (16, 14, 18), (32, 7, 9), (32, 4, 5)]
    assert pyramid[0] is None and [tuple(feature.shape[1:]) for feature in pyramid[1:]] == shapes
    assert neck.out_channels == (None, 8, 16, 32, 32)
    assert pyramid[3] is given[3]
    # The pooled map holds the maxima of 2x2 windows, those at the border of what is left of them.
    assert torch.equal(pyramid[4][..., 0, 0], given[3][..., :2, :2].amax((2, 3)))
    assert torch.equal(pyramid[4][..., -1, -1], given[3][..., -1, -1])
    assert neck(features(size=(1, 1)))[4].shape[-2:] == (1, 1)

    unpooled = PlainViTPyramid(in_channels=WIDTHS, pool=False)(given)
    assert unpooled[4] is unpooled[3]


@pytest.mark.parametrize(
    ('index', 'finest_index', 'widths'),
    [
        (2, 1, (None, 16, 32, 32, 32)),
        (3, 1, (None, 8, 16, 32, 32)),
        (3, 2, (None, None, 16, 32, 32)),
        (3, 3, (None, None, None, 32, 32)),
        (4, 1, (None, 4, 8, 16, 32)),
    ],
)
def test_every_weight_serves_the_finest_map(index, finest_index, widths):
    neck = PlainViTPyramid(in_channels=[32 if level == index else None for level in range(5)], finest_index=finest_index)
    pyramid = neck(features(index))
    assert neck.out_channels == widths == tuple(feature if feature is None else feature.shape[1] for feature in pyramid)
    if index == finest_index:
        assert not list(neck.parameters())
    else:
        pyramid[finest_index].square().mean().backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())
