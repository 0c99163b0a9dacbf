"""The picture of a confusion matrix."""

import numpy as np
import pytest

from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.visualization.confusion_picture import normalise_rows, render_confusion_matrix
from mtl_plugins.visualization.plots import to_array


def test_rows_are_shares_of_the_label_and_a_class_without_pixels_has_none():
    shares = normalise_rows(np.array([[3, 1, 0], [0, 0, 0], [5, 0, 15]]))
    assert np.array_equal(shares, [[75, 25, 0], [np.nan] * 3, [25, 0, 75]], equal_nan=True)


def test_a_larger_share_is_drawn_darker_and_an_empty_row_grey():
    matrix = np.diag([100, 100, 0])
    matrix[0, 1] = 100
    picture = to_array(render_confusion_matrix(matrix, ['road', 'sky', 'car'])).astype(int)
    assert picture.dtype.kind == 'i' and picture.shape[2] == 3
    full, half = np.array([8, 48, 107]), np.array([106, 174, 214])
    areas = [(np.abs(picture - colour).max(-1) <= 6).sum() for colour in (full, half, (226, 228, 230))]
    # One cell of 100 % (beside the end of the colour bar), two of 50 %, three of a label without pixels.
    assert areas[0] > 300 and 1.5 < areas[1] / areas[0] < 2.6 and 2.2 < areas[2] / areas[0] < 4


def test_any_number_of_classes_is_drawn():
    generator = np.random.default_rng(0)
    for classes in (CLASSES, [f'class {index}' for index in range(40)], ['one']):
        matrix = generator.integers(0, 10**6, (len(classes), len(classes)))
        picture = to_array(render_confusion_matrix(matrix, classes, title='validation'))
        assert picture.dtype == np.uint8 and picture.std() > 10


@pytest.mark.parametrize('matrix', [np.zeros((2, 3), int), np.zeros((2, 2), int), np.full((3, 3), -1)])
def test_what_is_no_confusion_matrix_is_refused(matrix):
    with pytest.raises(ValueError, match='`matrix` should'):
        render_confusion_matrix(matrix, ['road', 'sky', 'car'])
