"""The file of weights of the assignment of 2022: a network with its names, written out, and what is made of its checkpoint."""

import argparse

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import CheckpointError
from mtl_plugins.registry import MODELS
from tests.tiny import CONFIGS

CONFIG = CONFIGS / 'deeplabv3/deeplabv3_r18-d32_1xb16-10e_course2022_coco-256x256.py'


def branch(in_channels: int, rate: int) -> nn.Module:
    layers = nn.Module()
    kernel = dict(kernel_size=1) if rate == 1 else dict(kernel_size=3, padding=rate, dilation=rate)
    layers.atrous_convolution = nn.Conv2d(in_channels, 256, **kernel, bias=False)
    layers.bn = nn.BatchNorm2d(256)
    return layers


class Assignment(nn.Module):
    """ResNet-18 twice, up to ``layer1`` and up to ``layer4``, of which the former's weights are the latter's, and a decoder."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        network = resnet18()
        del network.avgpool, network.fc
        self.low_feat, self.encoder = nn.Module(), network
        for name in ('conv1', 'bn1', 'layer1'):
            setattr(self.low_feat, name, getattr(network, name))
        self.decoder = decoder = nn.Module()
        for number, rate in enumerate((1, 6, 12, 18), 1):
            setattr(decoder, f'aspp{number}', branch(512, rate))
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(512, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        decoder.global_avg_pool = nn.Sequential(*pooled)
        decoder.conv1, decoder.bn1 = nn.Conv2d(1280, 256, 1, bias=False), nn.BatchNorm2d(256)
        decoder.conv2, decoder.bn2 = nn.Conv2d(64, 48, 1, bias=False), nn.BatchNorm2d(48)
        convs = [nn.Conv2d(304, 256, 3, padding=1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        convs += [nn.Conv2d(256, 256, 3, padding=1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        decoder.last_conv = nn.Sequential(*convs, nn.Conv2d(256, num_classes, 1))

    def forward(self, images):
        encoder, decoder = self.encoder, self.decoder
        low = encoder.layer1(encoder.maxpool(encoder.relu(encoder.bn1(encoder.conv1(images)))))
        features = encoder.layer4(encoder.layer3(encoder.layer2(low)))
        aspp = [getattr(decoder, f'aspp{number}') for number in range(1, 5)]
        maps = [F.relu(each.bn(each.atrous_convolution(features))) for each in aspp]
        maps.append(decoder.global_avg_pool(features).expand_as(maps[0]))
        context = F.relu(decoder.bn1(decoder.conv1(torch.cat(maps, dim=1))))
        # There with aligned corners.
        context = F.interpolate(context, size=low.shape[-2:], mode='bilinear', align_corners=False)
        return decoder.last_conv(torch.cat([context, F.relu(decoder.bn2(decoder.conv2(low)))], dim=1))


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    network = Assignment(6)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return network.eval()


def save(path, weights) -> str:
    """A checkpoint as the scripts of the assignment write it."""
    torch.save(dict(opt=argparse.Namespace(lr=0.001), epoch=3, model=weights, optimizer={}, loss=0.4, miou=0.2), path)
    return str(path)


def build(path: str):
    torch.manual_seed(1)
    parts = ('backbone', 'decode_head.head')
    model = MODELS.build(load_config(str(CONFIG), {f'model.{part}.init_cfg.checkpoint': path for part in parts}).model)
    model.init_weights()
    return model.eval()


@torch.no_grad()
def test_the_loaded_model_is_the_network_of_the_file(network, tmp_path):
    model = build(save(tmp_path / 'weights.pth', network.state_dict()))
    images = torch.randn(2, 3, 96, 64)
    expected = network(images)
    found = model.decode_head(model.backbone(images))['semseg'][0]
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_binary_predictor_is_left_out_and_what_does_not_fit_is_said(network, tmp_path):
    weights = network.state_dict() | {
        'decoder.last_conv.6.weight': torch.zeros(2, 256, 1, 1),
        'decoder.last_conv.6.bias': torch.zeros(2),
    }
    head = build(save(tmp_path / 'binary.pth', weights)).decode_head.head
    assert head.predictor.weight.shape == (6, 256, 1, 1) and head.predictor.weight.any()
    assert torch.equal(head.aspp.fuse.weight, weights['decoder.conv1.weight'])
    del weights['decoder.aspp4.bn.bias']
    with pytest.raises(CheckpointError, match=r'do not fit DeepLabV3PlusHead: .* 1 missing \(first: aspp.branches.3.norm.bias\)'):
        build(save(tmp_path / 'damaged.pth', weights))
    # Weights of a run, by this package's own names.
    torch.save({f'decode_head.head.{name}': value for name, value in head.state_dict().items()}, tmp_path / 'run.pth')
    options = dict(type='Pretrained', checkpoint=str(tmp_path / 'run.pth'), prefix='decode_head.head.')
    config = load_config(str(CONFIG)).model.decode_head.head
    again = MODELS.build({**config, 'init_cfg': options, 'in_channels': (None, 64, 128, 256, 512), 'out_channels': 6})
    again.init_weights()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in head.state_dict().items())
