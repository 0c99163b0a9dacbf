"""Parameter counts that the course's reports print, to be met exactly."""

import pytest

from mtl_plugins.models.backbones import DilatedResNet
from mtl_plugins.models.decode_heads import DeepLabV3PlusHead
from mtl_plugins.models.layers.aspp import ASPP
from tests.models.builders import build_segmentor


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('output_stride', [32, 16, 8])
def test_resnet18_encoder(output_stride):
    assert count(DilatedResNet(depth=18, output_stride=output_stride)) == 11_176_512


def test_aspp():
    assert count(ASPP(512, 256)) == 4_131_584


@pytest.mark.parametrize(('out_channels', 'parameters'), [(20, 1_300_036), (19, 1_299_779), (1, 1_295_153)])
def test_decoder_with_predictor(out_channels, parameters):
    head = DeepLabV3PlusHead(in_channels=(64, 64, 128, 256, 512), out_channels=out_channels)
    assert count(head.decoder) + count(head.predictor) == parameters


@pytest.mark.parametrize(('head', 'total'), [('JointHead', 16_608_132), ('BranchedHead', 22_034_612)])
def test_whole_model(head, total):
    assert count(build_segmentor(head=head, channels=256)) == total
