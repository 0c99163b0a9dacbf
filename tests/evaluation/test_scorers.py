"""Scores of classes, depth, normals and boundaries against the definitions, written out pixel by pixel."""

import math

import numpy as np
import pytest

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.boundary_f import THRESHOLDS, BoundaryScorer, image_boundary_counts
from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.functional.depth_errors import ALIGNMENTS, DEPTH_METRICS, PROTOCOLS, DepthScorer, image_depth_errors
from mtl_plugins.evaluation.functional.normal_errors import NORMAL_METRICS, NormalScorer
from mtl_plugins.evaluation.scores import multitask_scores, titles_in
from tests.evaluation.references import (
    NUM_CLASSES,
    random_semseg_maps,
    reference_align,
    reference_depth,
    reference_depth_image,
    reference_semseg,
)


def codes(*values):
    return np.array([values], np.uint8)


def _scorer(labels, predictions):
    scorer = ConfusionScorer('semseg', [str(number) for number in range(NUM_CLASSES)])
    for label, prediction in zip(labels, predictions, strict=True):
        scorer.add(scorer.measure(label, prediction))
    return scorer


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('classes', [range(19), range(17), (3,)], ids=['all', 'two absent', 'one only'])
def test_equals_the_reference(seed, classes):
    labels, predictions = random_semseg_maps(np.random.default_rng(seed), classes=classes)
    expected = {str(name): value for name, value in reference_semseg(labels, predictions).items()}
    assert _scorer(labels, predictions).results() == pytest.approx(expected, abs=1e-9)


def test_rows_are_labels_and_ignored_pixels_are_in_none():
    confusion = _scorer([codes(2, 2, 255)], [codes(1, 2, 1)]).confusion
    assert confusion[2, 1] == 1 and confusion[2, 2] == 1 and confusion.sum() == 2
    nothing = _scorer([], [])
    assert math.isnan(nothing.results()['nan_mean_iou']) and math.isnan(nothing.results()['pixel_accuracy'])
    with pytest.raises(ValueError, match=r'`label` should hold classes 0\.\.18 or 255\. Found 19\.'):
        nothing.measure(codes(0, 19), codes(0, 0))
    assert nothing.is_empty()


@pytest.mark.parametrize(('gt', 'pred'), [(5, 4), (4, 5), (25, 16), (16, 25), (125, 64), (64, 125), (6, 5), (1, 1)])
def test_delta_thresholds_are_strict(gt, pred):
    label, prediction = np.full((2, 2), gt, np.float32), np.full((2, 2), pred, np.float32)
    errors = dict(zip(DEPTH_METRICS, image_depth_errors(label, prediction), strict=True))
    expected = reference_depth_image(label, prediction)
    for k in (1, 2, 3):
        assert errors[f'delta{k}'] == expected[f'delta{k}']
        assert errors[f'delta{k}'] == (100 if 4**k * max(gt, pred) < 5**k * min(gt, pred) else 0)


def test_an_image_of_many_blocks_equals_the_reference():
    rng = np.random.default_rng(0)
    label = rng.choice(np.float32([0, 4, 7, 30, 200]), (150, 250))
    label[60:140] = 0
    prediction = (np.where(label > 0, label, 9) * np.exp(rng.normal(np.linspace(-1, 1, 250), 0.3))).astype(np.float32)
    for name, value in zip(DEPTH_METRICS, image_depth_errors(label, prediction), strict=True):
        assert value == pytest.approx(reference_depth_image(label, prediction)[name], rel=1e-12), name


@pytest.mark.parametrize('factor', [1.0, 3.7, 1e-4])
def test_a_constant_factor_costs_nothing(factor):
    """mean(e^2) - mean(e)^2 loses all digits here: the plain form gives up to 1e-6, or NaN from a negative radicand."""
    label = np.random.default_rng(0).uniform(200, 300, (64, 64))
    assert image_depth_errors(label, label * factor)[0] == pytest.approx(0, abs=1e-11)


def _nyu_maps(seed: int):
    """Depth of two images like NYU's, with unknown pixels and some beyond 10 m."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.float32([0, 0.7, 2, 3, 5, 9.9, 12]), (2, 48, 64))
    labels[1, :40] = 0
    predictions = np.where(labels > 0, labels, 4) * np.exp(rng.normal(0.2, 0.4, labels.shape))
    return labels, predictions.astype(np.float32)


def _scores(labels, predictions, *protocol):
    scorer = DepthScorer('depth', *protocol)
    for label, prediction in zip(labels, predictions, strict=True):
        scorer.add(scorer.measure(label, prediction))
    return {name.rpartition('/')[2]: value for name, value in scorer.scores().items()}


@pytest.mark.parametrize('alignment', [None, *ALIGNMENTS])
@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_protocols_and_alignments_equal_the_reference(protocol, alignment):
    labels, predictions = _nyu_maps(0)
    expected = [], []
    for label, prediction in zip(labels, predictions, strict=True):
        counts = label > 0
        if protocol == 'eigen':
            counts &= (label > 1e-3) & (label < 10)
            # 45..470 of 480 and 41..600 of 640, at a tenth of the size.
            counts[:4] = counts[47:] = counts[:, :4] = counts[:, 60:] = False
        gt, pred = label[counts], prediction[counts]
        if alignment:
            pred = reference_align(gt, pred, alignment)
        expected[0].append(gt)
        expected[1].append(pred.clip(1e-3, 10) if protocol == 'eigen' else pred)
    if protocol == 'mtan':
        expected = [np.concatenate(maps)[None] for maps in expected]
    found = _scores(labels, predictions, protocol, alignment)
    for name, value in reference_depth(*expected).items():
        assert found[name] == pytest.approx(value, rel=1e-6), name


def test_a_protocol_without_a_pixel_that_counts_gives_nan_and_an_unknown_one_is_refused():
    label, prediction = np.full((2, 48, 64), 11, np.float32), np.ones((2, 48, 64), np.float32)
    assert np.isnan(_scores(label, prediction, 'eigen', 'median')['rel'])
    assert np.isnan(_scores(label * 0, prediction, 'mtan')['rel'])
    # A constant has no slope: the fit is the mean.
    assert _scores(label, prediction, 'courses', 'linear')['mae'] == pytest.approx(0)
    for protocol in (['kitti'], ['eigen', 'scale']):
        with pytest.raises(ArgumentError, match=f'should be .*{protocol[-1]}'):
            DepthScorer('depth', *protocol)


@pytest.mark.parametrize(
    ('mean_iou', 'si_log_rmse', 'expected'),
    [(85.0, 20.0, 65.0), (40.0, 20.0, 30.0), (85.0, 60.0, 35.0), (10.0, 90.0, 0.0), (100.0, 0.0, 100.0)],
)
def test_multitask_score(mean_iou, si_log_rmse, expected):
    scores = {'metrics_summary/semseg': mean_iou, 'metrics_summary/depth': si_log_rmse}
    assert multitask_scores(scores) == {
        'metrics_summary/multitask': expected,
        'metrics_summary/multitask_unclipped': mean_iou - si_log_rmse,
    }
    for alone in ({'metrics_summary/semseg': mean_iou}, {'metrics_summary/depth': si_log_rmse}):
        assert multitask_scores(alone) == {'metrics_summary/multitask': 0.0}
        # Tables do not show that 0.
        assert titles_in(alone | multitask_scores(alone)).keys() == alone.keys()
    assert list(titles_in(scores | multitask_scores(scores)).values()) == ['mIoU', 'SI-logRMSE', 'multitask']


def random_normals(rng, size=(9, 13)):
    label = rng.normal(size=(*size, 3))
    label /= np.linalg.norm(label, axis=-1, keepdims=True)
    prediction = label + rng.normal(size=label.shape) * rng.choice([1e-4, 0.2, 2], size=(*size, 1))
    label[rng.random(size) < 0.2] = 0
    return label, prediction


def reference_normals(label, prediction):
    angles = []
    for truth, guess in zip(label.reshape(-1, 3), prediction.reshape(-1, 3), strict=True):
        if truth.any():
            # The chord: exact for small angles too, and not the formula of the code.
            guess = guess / math.sqrt(sum(guess**2))
            truth = truth / math.sqrt(sum(truth**2))
            angles.append(math.degrees(2 * math.asin(min(math.sqrt(sum((truth - guess) ** 2)) / 2, 1))))
    angles = sorted(angles)
    middle = len(angles) // 2
    return dict(
        mean_angle=sum(angles) / len(angles),
        median_angle=angles[middle] if len(angles) % 2 else (angles[middle - 1] + angles[middle]) / 2,
        rmse_angle=math.sqrt(sum(angle**2 for angle in angles) / len(angles)),
        **{f'within_{limit:g}': 100 * sum(angle < limit for angle in angles) / len(angles) for limit in (11.25, 22.5, 30.0)},
    )


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_angles_equal_the_reference_over_a_split(dtype):
    rng, scorer = np.random.default_rng(0), NormalScorer('normals')
    pairs = [random_normals(rng) for _ in range(4)]
    pairs = [(label.astype(dtype), prediction.astype(dtype)) for label, prediction in pairs]
    for label, prediction in [*pairs, (np.zeros((3, 4, 3), dtype), np.ones((3, 4, 3), dtype))]:
        scorer.add(scorer.measure(label, prediction))
    references = [reference_normals(label.astype(np.float64), prediction.astype(np.float64)) for label, prediction in pairs]
    scores = scorer.scores()
    assert scorer.num_images == 4 and set(references[0]) == set(NORMAL_METRICS)
    for name in NORMAL_METRICS:
        expected = sum(reference[name] for reference in references) / 4
        assert scores[f'metrics_task_normals/{name}'] == pytest.approx(expected, rel=1e-9, abs=1e-9), name
    assert scores['metrics_summary/normals'] == scores['metrics_task_normals/mean_angle']


def random_boundaries(rng, size=(14, 17)):
    label = rng.choice([0, 1, 255], size=size, p=[0.75, 0.15, 0.1]).astype(np.uint8)
    # Some probabilities lie exactly on a threshold.
    prediction = np.where(rng.random(size) < 0.3, rng.choice(THRESHOLDS, size), rng.random(size) ** 2)
    return label, prediction


def reference_counts(label, prediction, threshold, tolerance):
    chosen = [p for p in np.ndindex(label.shape) if label[p] != 255 and prediction[p] >= threshold]
    truth = [p for p in np.ndindex(label.shape) if label[p] == 1]

    def near(pixel, others):
        return any((pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 <= tolerance**2 for y, x in others)

    return len(chosen), sum(near(p, truth) for p in chosen), len(truth), sum(near(p, chosen) for p in truth)


@pytest.mark.parametrize('tolerance', [0, 1, 2, 3])
def test_counts_equal_the_reference(tolerance):
    label, prediction = random_boundaries(np.random.default_rng(tolerance))
    counts = image_boundary_counts(label, prediction, tolerance)
    for index in (0, 1, 24, 49, 50, 80, 98):
        assert tuple(counts[:, index]) == reference_counts(label, prediction, THRESHOLDS[index], tolerance), THRESHOLDS[index]


def test_f_measure_at_the_best_threshold_of_the_split():
    rng, scorer = np.random.default_rng(5), BoundaryScorer('boundary', 1)
    pairs = [random_boundaries(rng, (9, 11)) for _ in range(3)]
    for label, prediction in pairs:
        scorer.add(scorer.measure(label, prediction))
    found = []
    for threshold in THRESHOLDS:
        predicted, right, labelled, hit = np.sum([reference_counts(*pair, threshold, 1) for pair in pairs], axis=0)
        precision, recall = right / predicted if predicted else 0.0, hit / labelled
        f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        found.append((f, precision, recall))
    best = max(range(99), key=lambda index: (found[index][0], -index))
    scores = scorer.scores()
    expected = dict(zip(('f_best', 'precision_best', 'recall_best'), (100 * value for value in found[best]), strict=True))
    expected |= {'threshold_best': THRESHOLDS[best], 'f_0.5': 100 * found[49][0]}
    for name, value in expected.items():
        assert scores[f'metrics_task_boundary/{name}'] == pytest.approx(value, rel=1e-9, abs=1e-9), name
    assert scores['metrics_summary/boundary'] == scores['metrics_task_boundary/f_best']


CLASSES, DEPTH = ConfusionScorer('semseg', [str(number) for number in range(NUM_CLASSES)]), DepthScorer('depth')
NORMALS, BOUNDARY = NormalScorer('normals'), BoundaryScorer('boundary', 2)
ONES, VECTORS = np.ones((4, 4), np.float32), np.ones((2, 2, 3))


@pytest.mark.parametrize(
    ('scorer', 'label', 'prediction', 'message'),
    [
        (CLASSES, codes(254), codes(0), r'`label` .* Found 254\.'),
        (CLASSES, codes(0), codes(19), r'`prediction` should hold classes 0\.\.18\. Found 19\.'),
        (CLASSES, codes(255), codes(255), r'`prediction` .* Found 255\.'),
        (CLASSES, codes(0, 1), codes(0), r'same shape\. Found \(1, 2\) and \(1, 1\)\.'),
        (DEPTH, ONES, ONES * np.nan, '`prediction` should be finite. Found nan.'),
        (DEPTH, ONES * 0, ONES * -np.inf, '`prediction` should be finite. Found -inf.'),
        (DEPTH, ONES * np.inf, ONES, '`label` should be finite. Found inf.'),
        (DEPTH, ONES, ONES[:3], r'same shape. Found \(4, 4\) and \(3, 4\)'),
        (DEPTH, ONES.astype(np.uint8), ONES, '`label` should be float32 or float64. Found uint8.'),
        (NORMALS, VECTORS, VECTORS[:1], 'should have one shape'),
        (NORMALS, VECTORS, VECTORS * np.nan, '`prediction` should be finite'),
        (NORMALS, VECTORS, VECTORS * 0, '`prediction` should hold vectors of any length but zero'),
        (BOUNDARY, codes(0, 1), ONES[:1, :2] * 2, r'should be probabilities\. Found 2\.0'),
        (BOUNDARY, ONES, ONES, '`label` should be uint8'),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(scorer, label, prediction, message):
    with pytest.raises((ValueError, TypeError), match=message):
        scorer.measure(label, prediction)
