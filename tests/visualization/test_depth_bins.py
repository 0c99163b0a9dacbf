"""What the picture of depth bins draws is what the head predicts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mtl_plugins.errors import ConfigError
from mtl_plugins.registry import MODELS
from mtl_plugins.visualization.depth_bins import find_bins_head, predict_bins, render_depth_bins, shares
from tests import tiny  # noqa: F401  # registers the backbone

BINS = np.array([5.0, 6.0, 40.0, 200.0])


@pytest.fixture
def model():
    torch.manual_seed(0)
    head = dict(type='DeepLabV3PlusHead', channels=16, skip_channels=8)
    return MODELS.build(
        dict(
            type='MultiTaskSegmentor',
            data_preprocessor=dict(type='MultiTaskDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, size_divisor=16),
            backbone=dict(type='TinyBackbone'),
            decode_head=dict(
                type='BranchedHead',
                head=head,
                task_heads=dict(depth=dict(type='FixedBinsDepthHead', num_bins=8, channels=16, head=head)),
            ),
            tasks=dict(semseg=dict(type='SemSegTask', num_classes=19), depth=dict(type='DepthTask', representation='metres')),
        )
    ).eval()


def test_bins_and_depth_are_the_models_own(model):
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    depth, bins = predict_bins(model, image)
    # Eight equal cells of log depth between 4 and 300 m.
    np.testing.assert_allclose(bins, 4 * 75 ** ((np.arange(8) + 0.5) / 8), rtol=1e-5)
    with torch.inference_mode():
        inputs = model.data_preprocessor(dict(inputs=torch.from_numpy(image)[None]))['inputs']
        expected = model.predict_arrays(inputs)['depth'][0, :40, :50]
    np.testing.assert_array_equal(depth, expected.numpy())
    assert not find_bins_head(model)._forward_pre_hooks


def test_a_model_without_bins_is_refused_in_one_sentence():
    model = SimpleNamespace(decode_head=torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(ConfigError, match=r'depth head with bins.*Found Conv2d'):
        find_bins_head(model)


def test_shares_are_per_cent_and_outer_cells_take_what_lies_beyond():
    edges = np.array([1.0, 10.0, 100.0])
    np.testing.assert_allclose(shares(np.array([0.5, 2.0, 50.0, 1000.0]), edges), [50, 50])
    np.testing.assert_allclose(shares(np.array([]), edges), [0, 0])


def test_unlabelled_pixels_count_in_no_histogram(monkeypatch):
    from mtl_plugins.visualization import depth_bins

    seen = []
    monkeypatch.setattr(depth_bins, 'shares', lambda values, edges: seen.append(np.sort(values)) or shares(values, edges))
    depth, predicted = np.array([[0.0, 8.0]]), np.array([[70.0, 9.0]])
    render_depth_bins([dict(image=np.zeros((1, 2, 3), np.uint8), depth=depth, pred_depth=predicted, bins=BINS)], (4.0, 300.0))
    np.testing.assert_array_equal(seen[0], [8.0])
    np.testing.assert_array_equal(seen[1], [9.0])
    np.testing.assert_array_equal(seen[2], BINS)


def test_samples_lie_beside_each_other_and_wrap_after_three():
    row = dict(image=np.zeros((16, 32, 3), np.uint8), pred_depth=np.full((16, 32), 9.0), bins=BINS)
    one, four = (render_depth_bins([row] * count, (4.0, 300.0)).shape for count in (1, 4))
    assert four[:2] == (2 * one[0], 3 * one[1])


def test_no_row_is_an_error():
    with pytest.raises(ValueError, match='at least one sample'):
        render_depth_bins([], (4.0, 300.0))
