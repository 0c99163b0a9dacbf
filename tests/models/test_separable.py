"""Separable ASPP and decoder against the layers of segmentation-models-pytorch, and their first convolution written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtl_plugins.models.decode_heads.deeplabv3plus_head import SkipDecoder, upsampled_separable_conv3x3
from tests.models.builders import build_head, build_segmentor
from tests.models.test_layers import value_and_gradients


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


def copy_convolution(ours: nn.Module, theirs: nn.Sequential) -> None:
    """Weights of a convolution, separable or not, and its normalisation; theirs has no bias."""
    conv, norm, _ = theirs
    depthwise, pointwise = conv if isinstance(conv, nn.Sequential) else (None, conv)
    if depthwise is not None:
        ours.depthwise.load_state_dict(depthwise.state_dict())
    ours.conv.weight.copy_(pointwise.weight)
    if ours.conv.bias is not None:
        ours.conv.bias.zero_()
    ours.norm.load_state_dict(norm.state_dict())


@torch.no_grad()
def test_joint_head_is_made_of_the_layers_of_smp():
    """What smp has besides, a normalised fusion and skip and a convolution before the upsampling, is left out of theirs.

    It upsamples with aligned corners, which is left out, too.
    """
    smp = pytest.importorskip('segmentation_models_pytorch')
    torch.manual_seed(0)
    theirs = smp.DeepLabV3Plus('resnet18', encoder_weights=None, classes=20, encoder_output_stride=16).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.1)
    head = dict(type='DeepLabV3PlusHead', channels=256, rates=(12, 24, 36), num_convs=1, separable=True)
    ours = build_segmentor(decode_head=dict(type='JointHead', head=head)).eval().decode_head
    aspp, (decoder,), predictor = ours.head.aspp, ours.head.decoder, ours.head.predictor
    their_aspp = theirs.decoder.aspp[0]
    *branches, pooled = their_aspp.convs
    for branch, their_branch in zip(aspp.branches, branches, strict=True):
        copy_convolution(branch, their_branch)
    copy_convolution(aspp.pooled_branch, list(pooled)[1:])
    aspp.fuse.weight.copy_(their_aspp.project[0].weight)
    aspp.fuse.bias.zero_()
    decoder.skip.weight.copy_(theirs.decoder.block1[0].weight)
    decoder.skip.bias.zero_()
    copy_convolution(decoder.convs[0], theirs.decoder.block2)
    predictor.load_state_dict(theirs.segmentation_head[0].state_dict())

    features = theirs.encoder(torch.randn(2, 3, 96, 128))
    context = their_aspp.project[0](torch.cat([conv(features[-1]) for conv in their_aspp.convs], dim=1))
    skip = theirs.decoder.block1[0](features[2])
    upsampled = F.interpolate(context, size=skip.shape[-2:], mode='bilinear', align_corners=False)
    expected = theirs.segmentation_head[0](theirs.decoder.block2(torch.cat([upsampled, skip], dim=1)))
    found = torch.cat([maps for (maps,) in ours(features[1:]).values()], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize('config', [
    dict(type='ASPPHead', rates=(1, 2)),
    dict(type='DeepLabV3PlusHead', rates=(1, 2), skip_indices=(2, 1), num_convs=2),
    dict(type='TransformerSegHead', rates=(1, 2), num_tokens=9, num_heads=2, expansion=2),
])  # fmt: skip
def test_every_3x3_convolution_of_a_head_is_separable(config):
    head = build_head(**config, out_channels=5, channels=8, separable=True)
    convs = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    wide = [conv for conv in convs if conv.kernel_size == (3, 3)]
    assert wide and all(conv.groups == conv.in_channels for conv in wide)
    plain = build_head(**config, out_channels=5, channels=8)
    assert len(convs) == len(wide) + sum(isinstance(module, nn.Conv2d) for module in plain.modules())


def test_the_factored_form_is_refused_beside_it():
    with pytest.raises(ValueError, match='`factored_upsampling`'):
        SkipDecoder(8, 4, factored_upsampling=True, separable=True)
