"""Angles of normals and F-measures of boundaries against the definitions, written out pixel by pixel."""

import math

import numpy as np
import pytest

from mtl_plugins.evaluation.functional.boundary_f import THRESHOLDS, BoundaryScorer, image_boundary_counts
from mtl_plugins.evaluation.functional.normal_errors import NORMAL_METRICS, NormalScorer, image_normal_errors


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


def test_bad_normals():
    ones = np.ones((2, 2, 3))
    assert image_normal_errors(ones * 0, ones) is None
    assert np.isnan(list(NormalScorer('n').scores().values())).all() and NormalScorer('n').is_empty()
    for label, prediction, message in (
        (ones, ones[:1], 'should have one shape'),
        (ones, ones * np.nan, '`prediction` should be finite'),
        (ones, ones * 0, '`prediction` should hold vectors of any length but zero'),
    ):
        with pytest.raises(ValueError, match=message):
            image_normal_errors(label, prediction)


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


def test_perfect_boundaries_and_half_precision_of_thresholds():
    label = np.zeros((8, 8), np.uint8)
    label[3] = 1
    scorer = BoundaryScorer('b', 2)
    scorer.add(scorer.measure(label, label.astype(np.float32)))
    assert scorer.scores()['metrics_summary/b'] == 100
    with pytest.raises(ValueError, match=r'should be probabilities\. Found 0\.0'):
        scorer.measure(label, label * 2.0)
    with pytest.raises(TypeError, match='`label` should be uint8'):
        scorer.measure(label.astype(int), label * 1.0)
