"""ResNet, networks of timm with their copy for inference, and the neck that makes a pyramid of a plain transformer."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d, StdConv2d
from torch import nn

from mtl_plugins.models.backbones import DilatedResNet, TimmBackbone
from mtl_plugins.models.backbones.timm_folding import PaddedConv2d, SubsamplingConv2d, fold_traced_batch_norm
from mtl_plugins.models.necks import PlainViTPyramid
from mtl_plugins.models.utils.inference import prepare_for_inference
from tests.models.builders import as_if_trained, build_segmentor, make_batch


@pytest.mark.parametrize('output_stride', [32, 16, 8])
@pytest.mark.parametrize('depth', [18, 50])
def test_pyramid_of_a_resnet(depth, output_stride):
    backbone = DilatedResNet(depth=depth, output_stride=output_stride, with_stem=True).eval()
    images = torch.randn(1, 3, 97, 131)
    with torch.no_grad():
        features = backbone(images)
    strides = [2, 4, 8, min(16, output_stride), output_stride]
    assert [tuple(f.shape[1:]) for f in features] == [
        (width, -(-97 // s), -(-131 // s)) for width, s in zip(backbone.out_channels, strides, strict=True)
    ]
    without = DilatedResNet(depth=depth, output_stride=output_stride)
    assert features[0].min() == 0 and without.out_channels == (None, *backbone.out_channels[1:])
    without.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        assert without.eval()(images)[0] is None and torch.equal(without(images)[4], features[4])


@pytest.mark.parametrize('depth', [18, 50])
def test_dilation_keeps_the_function_on_the_coarse_grid(depth):
    """With the stride's taps spread instead, every second position computes what the strided network computes there."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, 64, 64)
    strided = DilatedResNet(depth=depth, output_stride=32).eval()
    with torch.no_grad():
        expected = strided(images)[-1]
        for output_stride in (16, 8):
            dilated = DilatedResNet(depth=depth, output_stride=output_stride).eval()
            dilated.load_state_dict(strided.state_dict())
            step = 32 // output_stride
            difference = dilated(images)[-1][:, :, ::step, ::step] - expected
            assert difference.abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize('depth', [18, 50])
def test_each_residual_is_squeezed_and_excited_for_each_task(depth):
    torch.manual_seed(0)
    backbone = DilatedResNet(depth=depth, squeeze_excitation=16, num_tasks=2, with_stem=True).eval()
    plain, images = DilatedResNet(depth=depth, with_stem=True).eval(), torch.randn(2, 3, 48, 64)
    # Weights of a network without, as ImageNet's, fit.
    weights = {**plain.state_dict(), 'fc.weight': torch.zeros(1)}
    backbone.load_state_dict(backbone.convert_weights(weights))
    assert backbone.excitations[3][1][0].fc1.out_channels == backbone.out_channels[4] // 16

    def excite(residual, excitation):
        squeezed = torch.einsum('oc,bc->bo', excitation.fc1.weight[:, :, 0, 0], residual.mean((2, 3))) + excitation.fc1.bias
        gate = torch.einsum('oc,bc->bo', excitation.fc2.weight[:, :, 0, 0], squeezed.relu()) + excitation.fc2.bias
        return residual * gate.sigmoid()[:, :, None, None]

    found = backbone(images)
    for task in (0, 1):
        hooks = [
            block.get_submodule('bn2' if depth == 18 else 'bn3').register_forward_hook(
                lambda module, inputs, residual, excitation=both[task]: excite(residual, excitation)
            )
            for stage, excitations in zip(
                (plain.layer1, plain.layer2, plain.layer3, plain.layer4), backbone.excitations, strict=True
            )
            for block, both in zip(stage, excitations, strict=True)
        ]
        for maps, expected in zip(found, plain(images), strict=True):
            torch.testing.assert_close(maps[2 * task : 2 * task + 2], expected, rtol=1e-4, atol=1e-4)
        for hook in hooks:
            hook.remove()


def test_blocks_that_start_as_the_identity():
    torch.manual_seed(0)
    backbone = DilatedResNet(depth=18, zero_init_residual=True)
    assert all(not block.bn2.weight.any() for block in backbone.layer1)
    features = torch.rand(1, 64, 8, 8)
    assert torch.equal(backbone.eval().layer1(features), features)
    torch.manual_seed(0)
    weights = DilatedResNet(depth=18).state_dict()
    different = {name for name, value in backbone.state_dict().items() if not torch.equal(value, weights[name])}
    assert different == {f'layer{stage}.{block}.bn2.weight' for stage in (1, 2, 3, 4) for block in (0, 1)}


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
def test_pyramid_of_timm(name, output_stride, with_stem, strides):
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
