import math

import numpy as np
import pytest

from mtl_plugins.evaluation.functional.confusion_matrix import (
    class_iou,
    mean_iou,
    nan_mean_iou,
    new_confusion_matrix,
    update_confusion_matrix,
)
from tests.evaluation.random_maps import random_semseg_maps
from tests.references.metrics import NUM_CLASSES, reference_semseg


def _confusion(labels, predictions):
    confusion = new_confusion_matrix(NUM_CLASSES)
    for label, prediction in zip(labels, predictions, strict=True):
        update_confusion_matrix(confusion, label, prediction)
    return confusion


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('classes', [range(19), range(17), (3,)], ids=['all', 'two absent', 'one only'])
def test_equals_the_reference(seed, classes):
    labels, predictions = random_semseg_maps(np.random.default_rng(seed), classes=classes)
    confusion = _confusion(labels, predictions)
    expected = reference_semseg(labels, predictions)
    np.testing.assert_allclose(class_iou(confusion), [expected[k] for k in range(NUM_CLASSES)], rtol=0, atol=1e-9)
    assert mean_iou(confusion) == pytest.approx(expected['mean_iou'], abs=1e-9)
    assert nan_mean_iou(confusion) == pytest.approx(expected['nan_mean_iou'], abs=1e-9)


def test_rows_are_labels_and_ignored_pixels_are_in_none():
    confusion = _confusion([np.array([[2, 2, 255]], np.uint8)], [np.array([[1, 2, 1]], np.uint8)])
    assert confusion[2, 1] == 1 and confusion[2, 2] == 1 and confusion.sum() == 2
    assert math.isnan(nan_mean_iou(new_confusion_matrix(NUM_CLASSES)))


@pytest.mark.parametrize(
    ('label', 'prediction', 'message'),
    [
        ([[19]], [[0]], r'`label` should hold classes 0\.\.18 or 255\. Found 19\.'),
        ([[254]], [[0]], r'`label` .* Found 254\.'),
        ([[0]], [[19]], r'`prediction` should hold classes 0\.\.18\. Found 19\.'),
        ([[255]], [[255]], r'`prediction` .* Found 255\.'),
        ([[0, 1]], [[0]], r'same shape\. Found \(1, 2\) and \(1, 1\)\.'),
    ],
)
def test_refuses_bad_maps_and_stays_unchanged(label, prediction, message):
    confusion = new_confusion_matrix(NUM_CLASSES)
    with pytest.raises(ValueError, match=message):
        update_confusion_matrix(confusion, np.array(label, np.uint8), np.array(prediction, np.uint8))
    assert not confusion.any()
