import numpy as np
import pytest

from mtl_plugins.evaluation.functional.depth_errors import DEPTH_METRICS, DepthScorer, image_depth_errors
from mtl_plugins.evaluation.scores import multitask_scores
from tests.evaluation.random_maps import random_depth_maps
from tests.references.metrics import reference_depth, reference_depth_image


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_equals_the_reference_over_a_split(seed, dtype):
    labels, predictions = random_depth_maps(np.random.default_rng(seed))
    errors = DepthScorer('depth')
    for label, prediction in zip(labels, predictions, strict=True):
        errors.add(errors.measure(label.astype(dtype), prediction.astype(dtype)))
    assert errors.num_images == 4  # one of the five has no valid pixel
    expected = reference_depth(labels, predictions)
    scores = errors.scores()
    assert set(expected) == set(DEPTH_METRICS)
    for name, value in expected.items():
        assert scores[f'metrics_task_depth/{name}'] == pytest.approx(value, rel=1e-9, abs=1e-9), name
    assert scores['metrics_summary/depth'] == scores['metrics_task_depth/si_log_rmse']


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


def test_no_valid_pixel_gives_none_and_an_empty_split_nan():
    nothing = np.zeros((3, 3), np.float32)
    assert image_depth_errors(nothing, nothing + 1) is None
    scores = DepthScorer('depth').scores()
    assert np.isnan(list(scores.values())).all()
    assert np.isnan(multitask_scores(scores | {'metrics_summary/semseg': 80.0})['metrics_summary/multitask'])


ONES = np.ones((4, 4), np.float32)


@pytest.mark.parametrize(
    ('label', 'prediction', 'message'),
    [
        (ONES, ONES * np.nan, '`prediction` should be finite. Found nan.'),
        (ONES * 0, ONES * -np.inf, '`prediction` should be finite. Found -inf.'),
        (ONES * np.inf, ONES, '`label` should be finite. Found inf.'),
        (ONES, ONES[:3], r'same shape. Found \(4, 4\) and \(3, 4\)'),
        (ONES.astype(np.uint8), ONES, '`label` should be float32 or float64. Found uint8.'),
    ],
)
def test_bad_maps_are_refused(label, prediction, message):
    with pytest.raises((ValueError, TypeError), match=message):
        image_depth_errors(label, prediction)


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
