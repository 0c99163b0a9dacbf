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
