"""Errors of pixels and their means by group against the definitions, written out pixel by pixel."""

import math

import numpy as np
import pytest

from mtl_plugins.evaluation.functional.boundary_f import probability_error
from mtl_plugins.evaluation.functional.confusion_matrix import wrong_class
from mtl_plugins.evaluation.functional.depth_errors import log_depth_error, relative_depth_error
from mtl_plugins.evaluation.functional.normal_errors import normal_angle
from mtl_plugins.lab.analysis.split_analysis import PLACE, PLACES, SplitAnalysis, choose_best_median_worst
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from tests.evaluation.random_maps import random_depth_maps, random_semseg_maps

LABELS = build_labels(MINISCAPES_LABELS)
ABSOLUTE, LOG = LABELS['depth'].pixel_error_names


def depth_reference(label, prediction):
    """(absolute relative error in per cent, log error) of a pixel, None without a label."""
    if label <= 0:
        return None
    label, prediction = max(float(label), 0.01), max(float(prediction), 0.01)
    return 100 * abs(prediction - label) / label, math.log(prediction / label)


def test_errors_of_single_pixels():
    truth, guess = np.array([[10.0, 10.0, 0.0, 4.0]], np.float32), np.array([[15.0, 5.0, 7.0, -1.0]], np.float32)
    np.testing.assert_allclose(relative_depth_error(truth, guess), [[50, -50, np.nan, 100 * (0.01 - 4) / 4]], rtol=1e-15)
    np.testing.assert_allclose(log_depth_error(truth, guess)[0, :2], [math.log(1.5), -math.log(2)], rtol=1e-15)
    classes, others = np.array([[3, 3, 255]], np.uint8), np.array([[3, 4, 4]], np.uint8)
    np.testing.assert_array_equal(wrong_class(classes, others), [[0, 100, np.nan]])
    boundary, probability = np.array([[1, 0, 255]], np.uint8), np.array([[0.75, 0.25, 0.5]], np.float32)
    np.testing.assert_array_equal(probability_error(boundary, probability), [[25, 25, np.nan]])
    normals, vectors = np.array([[[0, 0, 1.0], [0, 0, 0], [1, 0, 0]]]), np.array([[[0, 2.0, 2.0], [1, 0, 0], [3, 0, 0]]])
    np.testing.assert_allclose(normal_angle(normals, vectors), [[45, np.nan, 0]], atol=1e-12)


@pytest.mark.parametrize('function', [wrong_class, relative_depth_error, log_depth_error, normal_angle, probability_error])
def test_maps_of_different_shapes_are_refused(function):
    with pytest.raises(ValueError, match='same shape'):
        function(np.ones((2, 3, 3)), np.ones((3, 2, 3)))


def test_groups_by_distance_are_as_wide_in_the_logarithm_and_lose_no_pixel():
    edges = LABELS['depth'].group_edges()
    np.testing.assert_allclose(np.diff(np.log(edges)), math.log(300 / 4) / 12, rtol=1e-12)
    values = np.array([0.0, 1.0, 4.0, edges[1], np.nextafter(edges[1], 0), 299.9, 300.0, 5000.0])
    assert LABELS['depth'].groups(values).tolist() == [-1, 0, 0, 1, 0, 11, 11, 11]


@pytest.fixture(scope='module')
def maps():
    rng = np.random.default_rng(5)
    return [*zip(*random_depth_maps(rng), *random_semseg_maps(rng), strict=True)]


@pytest.fixture(scope='module')
def analysed(maps):
    """The analysis of five images with depth and classes, and what it said of each."""
    split, images = SplitAnalysis({name: LABELS[name] for name in ('semseg', 'depth')}, ['depth', 'semseg']), []
    for depth, predicted_depth, classes, predicted_classes in maps:
        values = dict(depth=depth, semseg=classes)
        images.append(split.add(values, dict(depth=predicted_depth, semseg=predicted_classes)))
    return split, images


def test_depth_errors_by_distance_class_and_place_equal_loops_over_all_pixels(maps, analysed):
    edges = LABELS['depth'].group_edges()
    pixels = {by: {} for by in ('depth', 'semseg', PLACE)}
    for depth, predicted, classes, _ in maps:
        for (row, column), metres in np.ndenumerate(depth):
            found = depth_reference(metres, predicted[row, column])
            if found is None:
                continue
            cells = (row * PLACES[0] // depth.shape[0]) * PLACES[1] + column * PLACES[1] // depth.shape[1]
            groups = dict(depth=sum(metres >= edge for edge in edges[1:-1]), semseg=int(classes[row, column]))
            for by, group in {**groups, PLACE: cells}.items():
                pixels[by].setdefault(group, []).append(found)
    split, _ = analysed
    checked = 0
    for table in split.tables:
        if table.label == 'depth':
            which = [ABSOLUTE, LOG].index(table.error)
            for group in range(len(table.names)):
                found = [pair[which] for pair in pixels[table.by].get(group, [])]
                assert table.counts[group] == len(found)
                if found:
                    assert table.means[group] == pytest.approx(math.fsum(found) / len(found), rel=1e-11, abs=1e-13)
                    checked += 1
                else:
                    assert np.isnan(table.means[group])
    assert checked > 2 * (10 + 17 + 100)


def test_wrong_classes_by_class_are_what_the_confusion_matrix_says(analysed):
    split, _ = analysed
    (table,) = [table for table in split.tables_by('semseg') if table.label == 'semseg']
    confusion = split.confusions()['semseg']
    assert table.counts.tolist() == confusion.sum(1).tolist()
    with np.errstate(invalid='ignore'):
        np.testing.assert_allclose(table.means, 100 * (1 - np.diag(confusion) / confusion.sum(1)), rtol=1e-12)


def test_an_image_without_a_label_counts_for_the_others_alone(maps, analysed):
    split, images = analysed
    assert np.isnan(images[1]['error/depth']) and np.isnan(images[1]['metrics_summary/depth'])
    assert np.isnan(images[-1]['error/semseg']) and images[0]['error/semseg'] > 0
    lacking = SplitAnalysis(split.labels, ['depth', 'semseg'])
    for depth, predicted_depth, _, predicted_classes in maps:
        lacking.add(dict(depth=depth), dict(depth=predicted_depth, semseg=predicted_classes))
    assert np.isnan(lacking.scores()['metrics_summary/semseg'])
    assert lacking.scores()['metrics_summary/depth'] == split.scores()['metrics_summary/depth']
    assert all(table.counts.sum() == 0 for table in lacking.tables if 'semseg' in (table.label, table.by))


def test_the_order_of_the_best_the_median_and_the_worst():
    values = np.array([5.0, 1.0, np.nan, 9.0, 3.0, 7.0, 2.0, 8.0])
    chosen = choose_best_median_worst(values, 2, lower_is_better=True)
    assert {rank: values[found].tolist() for rank, found in chosen.items()} == dict(best=[1, 2], median=[3, 5], worst=[9, 8])
    chosen = choose_best_median_worst(values, 1, lower_is_better=False)
    assert {rank: values[found].tolist() for rank, found in chosen.items()} == dict(best=[9], median=[5], worst=[1])
    for number in range(1, 8):
        positions = np.concatenate([*choose_best_median_worst(np.arange(float(number)), 3, True).values()])
        assert len(set(positions)) == len(positions) == number
