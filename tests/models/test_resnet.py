import pytest
import torch
import torchvision

from mtl_plugins.models.backbones import DilatedResNet
from tests.models.builders import build_segmentor


@pytest.mark.parametrize('output_stride', [32, 16, 8])
@pytest.mark.parametrize('depth', [18, 50])
def test_pyramid(depth, output_stride):
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


def test_same_features_as_torchvision():
    torch.manual_seed(0)
    reference = torchvision.models.resnet18().eval()
    backbone = DilatedResNet().eval()
    backbone.load_state_dict(backbone.convert_weights(reference.state_dict()))
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        pooled = backbone(images)[-1].mean((2, 3))
        torch.testing.assert_close(reference.fc(pooled), reference(images))


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
    with pytest.raises(ValueError, match=r'`num_tasks` above 1 needs `squeeze_excitation`. Found 2.'):
        DilatedResNet(num_tasks=2)
    with pytest.raises(ValueError, match=r'`backbone.num_tasks` should be 1, as JointHead reads it. Found 2.'):
        build_segmentor(backbone=dict(type='DilatedResNet', squeeze_excitation=16, num_tasks=2))


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
