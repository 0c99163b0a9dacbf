import pytest
import torch
import torchvision

from mtl_plugins.models.backbones import DilatedResNet


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
