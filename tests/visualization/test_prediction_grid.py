"""Colours of the prediction picture mean what its legend says."""

import numpy as np
import pytest

from mtl_plugins.labels.cityscapes_classes import PALETTE
from mtl_plugins.labels.class_map import WRONG_CLASS
from mtl_plugins.labels.pictures import INVALID, colour_labels
from mtl_plugins.visualization.prediction_grid import error_picture, render_prediction_grid
from tests.fake_miniscapes import LABELS

colour_depth = LABELS['depth'].colour


def test_labels_have_the_colours_of_cityscapes_and_ignored_pixels_are_black():
    picture = colour_labels(np.array([[0, 13, 255]], np.uint8))
    assert [tuple(pixel) for pixel in picture[0]] == [PALETTE[0], PALETTE[13], (0, 0, 0)]


def test_nearer_is_brighter_on_a_logarithmic_scale_and_unknown_depth_is_grey():
    brightness = colour_depth(np.array([[4.0, 34.64, 300.0, 0.0]]))[0].astype(float)
    assert tuple(brightness[3]) == INVALID
    near, middle, far = brightness[:3].mean(1)
    assert near > middle > far
    # The geometric mean of the range is its middle on a log scale.
    np.testing.assert_array_equal(brightness[1], colour_depth(np.sqrt([[4.0 * 300.0]]))[0, 0])


def test_errors_show_wrong_classes_over_depth_and_nothing_where_there_is_no_label():
    labels, predicted = np.array([[3, 3, 255, 255]], np.uint8), np.array([[3, 4, 4, 4]], np.uint8)
    depth, predicted_depth = np.array([[10.0, 10.0, 10.0, 0.0]]), np.array([[10.0, 10.0, 20.0, 5.0]])
    row = dict(labels=dict(semseg=labels, depth=depth), predictions=dict(semseg=predicted, depth=predicted_depth))
    picture = error_picture(row, LABELS)[0]
    assert tuple(picture[1]) == WRONG_CLASS
    assert tuple(picture[3]) == INVALID
    assert picture[0].sum() < 20 < 600 < picture[2].sum()


@pytest.mark.parametrize('tasks', [('semseg', 'depth'), ('semseg',), ('depth',), ()])
def test_the_grid_has_the_columns_of_its_tasks_and_one_row_per_sample(tasks):
    labels = dict(semseg=np.zeros((32, 64), np.uint8), depth=np.full((32, 64), 5.0))
    predictions = dict(semseg=np.ones((32, 64), np.uint8), depth=np.full((32, 64), 9.0))
    row = dict(image=np.full((32, 64, 3), 200, np.uint8))
    row |= dict(labels={task: labels[task] for task in tasks}, predictions={task: predictions[task] for task in tasks})
    one, two = (render_prediction_grid(rows, LABELS, tile_width=100) for rows in ([row], [row, row]))
    columns = 1 + 2 * len(tasks) + bool(tasks)
    assert one.shape[1] == 4 + columns * 104 and one.dtype == np.uint8
    assert two.shape[0] - one.shape[0] == 54
    assert tuple(one[40, 50]) == (200, 200, 200)
