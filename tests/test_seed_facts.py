"""Parameter counts that the course's reports print, to be met exactly by the configs."""

import pytest

from mtl_plugins.config.load import load_config
from mtl_plugins.models.backbones import DilatedResNet
from mtl_plugins.models.decode_heads.deeplabv3plus_head import ASPP
from mtl_plugins.registry import MODELS
from tests.tiny import CONFIGS


def count(*modules) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def build(system: str):
    return MODELS.build(load_config(str(CONFIGS / system / f'{system}_r18-d16_1xb16-32e_miniscapes-256x256.py')).model)


@pytest.mark.parametrize('output_stride', [32, 16, 8])
def test_resnet18_encoder(output_stride):
    assert count(DilatedResNet(depth=18, output_stride=output_stride)) == 11_176_512


def test_aspp():
    assert count(ASPP(512, 256)) == 4_131_584


def test_joint():
    model = build('joint')
    head = model.decode_head.head
    assert count(model.backbone) == 11_176_512
    assert count(head.aspp) == 4_131_584
    assert count(head.decoder, head.predictor) == 1_300_036
    assert count(model) == 16_608_132


def test_branched():
    model = build('branched')
    semseg, depth = model.decode_head.heads['semseg'], model.decode_head.heads['depth']
    assert count(semseg.aspp) == count(depth.aspp) == 4_131_584
    assert count(semseg.decoder, semseg.predictor) == 1_299_779
    assert count(depth.decoder, depth.predictor) == 1_295_153
    assert count(model) == 22_034_612


def test_adaptive_depth():
    model = build('adaptive_depth')
    head = model.decode_head.head
    assert count(head.head) == 2_579_008
    assert count(head.tokens) == 2_369_280
    assert count(head.query_conv) == 590_080
    assert count(head.bin_projection) == 257
    assert count(model) == 11_176_512 + 2_579_008 + 2_369_280 + 590_080 + 257 == 16_715_137
