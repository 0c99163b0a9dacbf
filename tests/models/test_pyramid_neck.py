import pytest
import torch

from mtl_plugins.models.necks import PlainViTPyramid

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


@pytest.mark.parametrize(('finest_index', 'widths'), [(1, (8, 16)), (2, (None, 16)), (3, (None, None))])
def test_every_weight_serves_the_finest_map(finest_index, widths):
    neck = PlainViTPyramid(in_channels=WIDTHS, finest_index=finest_index)
    assert neck.out_channels == (None, *widths, 32, 32)
    finest = neck(features())[finest_index]
    if finest_index < 3:
        finest.square().mean().backward()
    else:
        assert not list(neck.parameters())
    assert all(parameter.grad is not None for parameter in neck.parameters())


def test_without_pooling_the_map_itself_comes_last():
    pyramid = PlainViTPyramid(in_channels=WIDTHS, pool=False)(features())
    assert pyramid[4] is pyramid[3]


@pytest.mark.parametrize(('index', 'widths'), [(2, (None, 16, 32, 32, 32)), (4, (None, 4, 8, 16, 32))])
def test_other_patch_sizes(index, widths):
    neck = PlainViTPyramid(in_channels=[32 if level == index else None for level in range(5)])
    assert neck.out_channels == widths
    assert [feature.shape[1] for feature in neck(features(index))[1:]] == list(widths[1:])
