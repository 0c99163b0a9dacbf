"""The picture of bins."""

import numpy as np

from mtl_plugins.labels.depth_map import DepthMap
from mtl_plugins.visualization.bins import render_bins, shares

KIND = DepthMap(name='depth')
BINS = np.array([5.0, 6.0, 40.0, 200.0])


def test_shares_are_per_cent_and_outer_cells_take_what_lies_beyond():
    np.testing.assert_allclose(shares(np.array([0.5, 2.0, 50.0, 1000.0]), np.array([1.0, 10.0, 100.0])), [50, 50])


def test_unlabelled_pixels_count_in_no_histogram(monkeypatch):
    from mtl_plugins.visualization import bins

    seen = []
    monkeypatch.setattr(bins, 'shares', lambda values, edges: seen.append(np.sort(values)) or shares(values, edges))
    label, predicted = np.array([[0.0, 8.0]]), np.array([[70.0, 9.0]])
    row = dict(image=np.zeros((1, 2, 3), np.uint8), label=label, prediction=predicted, bins=BINS)
    render_bins([row], KIND, (4.0, 300.0))
    np.testing.assert_array_equal(seen[0], [8.0])
    np.testing.assert_array_equal(seen[1], [9.0])
    np.testing.assert_array_equal(seen[2], BINS)


def test_samples_lie_beside_each_other_and_wrap_after_three():
    row = dict(image=np.zeros((16, 32, 3), np.uint8), prediction=np.full((16, 32), 9.0), bins=BINS)
    one, four = (render_bins([row] * count, KIND, (4.0, 300.0)).shape for count in (1, 4))
    assert four[:2] == (2 * one[0], 3 * one[1])
