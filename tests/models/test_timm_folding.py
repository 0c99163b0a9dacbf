"""BatchNorm of timm's networks in the copy for inference; the oracle is the network as it is."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d, StdConv2d
from torch import nn

from mtl_plugins.models.backbones import TimmBackbone
from mtl_plugins.models.backbones.timm_folding import PaddedConv2d, SubsamplingConv2d, fold_traced_batch_norm
from mtl_plugins.models.utils.inference import prepare_for_inference
from tests.models.builders import as_if_trained, build_segmentor


def count_norms(module):
    return sum(isinstance(child, nn.BatchNorm2d) for child in module.modules())


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    ('name', 'output_stride', 'left'),
    [
        ('tf_efficientnet_lite0', 16, 0),  # padding of TensorFlow, activation within the normalisation
        ('resnet18', 16, 0),
        ('mobilenetv3_small_100', None, 0),
        ('densenet121', None, 62),  # normalises what several layers read, before the convolution
        ('vit_tiny_patch16_224', None, 0),  # none at all
    ],
)
@torch.no_grad()
def test_a_network_of_timm_computes_the_same(name, output_stride, left):
    backbone = as_if_trained(TimmBackbone(name=name, output_stride=output_stride))
    folded = copy.deepcopy(backbone)
    folded.fold_batch_norm()
    assert count_norms(folded) == left
    images = torch.randn(1, 3, 97, 131)
    for found, expected in zip(folded(images), backbone(images), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            assert_same(found, expected)


def test_strided_convolutions_of_few_channels_see_a_part_of_the_pixels():
    """torch's gradient of them writes where it must not, which crashes a training at random."""
    torch.manual_seed(0)
    backbone = TimmBackbone(name='repvgg_a0')
    (conv,) = [module for module in backbone.modules() if isinstance(module, SubsamplingConv2d)]
    plain = nn.Conv2d(3, conv.out_channels, 1, stride=2, bias=False)
    assert conv.in_channels == 3 and conv.weight.shape == plain.weight.shape
    plain.weight = conv.weight
    for size in ((64, 96), (33, 47)):
        images = torch.randn(2, 3, *size)
        assert_same(conv(images), plain(images))
        (found,), (expected,) = (torch.autograd.grad(each(images).pow(2).sum(), each.weight) for each in (conv, plain))
        torch.testing.assert_close(found, expected)
    names = TimmBackbone.build_whole(backbone).state_dict()
    assert {name.removeprefix('network.').replace('stages_', 'stages.') for name in backbone.state_dict()} <= set(names)


@torch.no_grad()
def test_padding_of_tensorflow_is_fixed_where_the_preprocessor_pads():
    torch.manual_seed(0)
    config = dict(type='TimmBackbone', name='tf_efficientnet_b0', output_stride=16)  # kernels of 3 and 5
    model = as_if_trained(build_segmentor(backbone=config))
    model.data_preprocessor.size_divisor = 16
    fixed = copy.deepcopy(model)
    fixed.fix_padding()
    assert sum(isinstance(module, PaddedConv2d) for module in fixed.modules()) == 4  # the fifth stride became a dilation
    assert list(fixed.state_dict()) == list(model.state_dict())
    for size in ((64, 64), (80, 112)):
        images = torch.randn(1, 3, *size)
        for found, expected in zip(fixed.backbone(images), model.backbone(images), strict=True):
            assert (found is None and expected is None) or torch.equal(found, expected)
    before = count_norms(model)
    assert (count_norms(prepare_for_inference(fixed)), before > 0) == (0, True)

    model.data_preprocessor.size_divisor = 8  # less than the stride: sizes differ
    model.fix_padding()
    assert not any(isinstance(module, PaddedConv2d) for module in model.modules())


@pytest.mark.slow
@torch.no_grad()
def test_a_network_of_tensorflow_is_compiled_for_any_size():
    config = dict(type='TimmBackbone', name='tf_efficientnet_lite0', output_stride=16)
    model = as_if_trained(build_segmentor(backbone=config))
    model.data_preprocessor.size_divisor = 16
    expected = [model.backbone(torch.ones(1, 3, *size))[-1] for size in ((32, 48), (48, 32))]
    model.fix_padding()
    backbone = torch.compile(model.backbone, backend='eager', dynamic=True)  # without the padding it does not end
    for each in expected:
        size = [16 * length for length in each.shape[-2:]]
        torch.testing.assert_close(backbone(torch.ones(1, 3, *size))[-1], each)


class Twice(nn.Module):
    """A convolution and a normalisation, put together in ways that forbid folding, or in the one that allows it."""

    def __init__(self, way, conv=nn.Conv2d):
        super().__init__()
        self.way, self.conv, self.norm = way, conv(3, 3, 3, padding=1, bias=False), BatchNormAct2d(3)

    def forward(self, inputs):
        hidden = self.conv(inputs)
        if self.way == 'output read twice':
            return self.norm(hidden) + hidden
        if self.way == 'convolution used twice':
            return self.norm(hidden) + self.conv(inputs * 2)
        if self.way == 'normalisation used twice':
            return self.norm(hidden) + self.norm(inputs)
        if self.way == 'control flow' and hidden.mean() < 0:
            return self.norm(-hidden)
        return self.norm(hidden)


@pytest.mark.parametrize(
    ('way', 'conv', 'left'),
    [
        ('plain', nn.Conv2d, 0),
        ('plain', StdConv2d, 1),  # normalises its weights, which would cancel the scale
        ('output read twice', nn.Conv2d, 1),
        ('convolution used twice', nn.Conv2d, 1),
        ('normalisation used twice', nn.Conv2d, 1),
        ('control flow', nn.Conv2d, 1),
        ('hook', nn.Conv2d, 1),
    ],
)
@torch.no_grad()
def test_what_may_not_be_folded_stays(way, conv, left):
    network = as_if_trained(Twice(way, conv))
    if way == 'hook':
        network.norm.register_forward_pre_hook(lambda module, arguments: (arguments[0] * 2,))
    inputs = torch.randn(2, 3, 8, 8)
    expected = network(inputs)
    fold_traced_batch_norm(network)
    assert count_norms(network) == left
    assert_same(network(inputs), expected)
