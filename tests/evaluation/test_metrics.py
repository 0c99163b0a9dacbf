"""Metrics of a validation, and errors of pixels and their means by group, against the definitions, written out."""

import math
import pickle

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mtl_plugins.errors import ConfigError, EvaluationError
from mtl_plugins.evaluation import metrics
from mtl_plugins.evaluation.metrics import IoUMetric, MultiTaskMetric
from mtl_plugins.lab.analysis.pixel_errors import errors_of
from mtl_plugins.lab.analysis.split_analysis import PLACE, PLACES, SplitAnalysis, choose_best_median_worst
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from tests.evaluation.references import random_depth_maps, random_semseg_maps, reference_depth, reference_semseg


def _data_samples(count=5, seed=0):
    rng = np.random.default_rng(seed)
    labels, predictions = random_semseg_maps(rng, count)
    depths, predicted_depths = random_depth_maps(rng, count)
    samples = []
    for index in range(count):
        sample = SegDataSample(metainfo=dict(sample_idx=index, img_path=f'/data/val/rgb/{index}.jpg', ori_shape=(23, 31)))
        fields = dict(gt_sem_seg=labels, pred_sem_seg=predictions, gt_depth_map=depths, pred_depth_map=predicted_depths)
        for name, maps in fields.items():
            setattr(sample, name, PixelData(data=torch.from_numpy(maps[index])[None]))
        samples.append(sample)
    return samples, (labels, predictions), (depths, predicted_depths)


def _evaluate(metric, samples):
    evaluator = Evaluator(metric)
    for start in range(0, len(samples), 2):
        evaluator.process(samples[start : start + 2])
    return evaluator.evaluate(len(samples))


def _expected(semseg, depth):
    reference = reference_semseg(*semseg)
    expected = {f'metrics_task_semseg/{name}': reference[i] for i, name in enumerate(CLASSES)}
    expected |= {f'metrics_task_semseg/{name}': value for name, value in reference.items() if isinstance(name, str)}
    expected |= {f'metrics_task_depth/{name}': value for name, value in reference_depth(*depth).items()}
    expected['metrics_summary/semseg'] = reference['mean_iou']
    expected['metrics_summary/depth'] = expected['metrics_task_depth/si_log_rmse']
    unclipped = expected['metrics_summary/semseg'] - expected['metrics_summary/depth']
    expected['metrics_summary/multitask_unclipped'] = unclipped
    gains = expected['metrics_summary/semseg'] - 50, 50 - expected['metrics_summary/depth']
    return expected | {'metrics_summary/multitask': sum(max(gain, 0) for gain in gains)}


def _assert_scores(scores, expected):
    assert set(scores) == set(expected)
    for name, value in expected.items():
        assert type(scores[name]) is float
        assert scores[name] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), name


def test_multitask_metric_equals_the_reference_and_resets():
    samples, semseg, depth = _data_samples()
    metric = MultiTaskMetric()
    for _ in range(2):
        _assert_scores(_evaluate(metric, samples), _expected(semseg, depth))


@pytest.mark.parametrize('task', ['semseg', 'depth'])
def test_single_task(task):
    samples, semseg, depth = _data_samples()
    for sample in samples:
        for key in ('depth_map',) if task == 'semseg' else ('sem_seg',):
            delattr(sample, f'gt_{key}')
            delattr(sample, f'pred_{key}')
    of_task = (f'metrics_task_{task}/', f'metrics_summary/{task}')
    expected = {name: value for name, value in _expected(semseg, depth).items() if name.startswith(of_task)}
    _assert_scores(_evaluate(MultiTaskMetric(tasks=(task,)), samples), expected | {'metrics_summary/multitask': 0.0})
    if task == 'semseg':
        _assert_scores(_evaluate(IoUMetric(), samples), expected)


def test_samples_without_a_label_do_not_count():
    """Scores equal those of the labelled samples alone; a label that no sample has is NaN."""
    samples, (labels, predictions), (depths, predicted) = _data_samples()
    del samples[1].gt_sem_seg, samples[3].gt_sem_seg, samples[0].gt_depth_map
    kept = [0, 2, 4]
    semseg = [labels[i] for i in kept], [predictions[i] for i in kept]
    _assert_scores(_evaluate(MultiTaskMetric(), samples), _expected(semseg, (depths[1:], predicted[1:])))
    for sample in samples:
        sample.pop('gt_sem_seg', None)
    scores = _evaluate(MultiTaskMetric(), samples)
    assert math.isnan(scores['metrics_summary/semseg']) and math.isnan(scores['metrics_task_semseg/road'])
    assert scores['metrics_summary/depth'] > 0 and math.isnan(scores['metrics_summary/multitask'])


def test_half_precision_predictions_are_scored_as_float32():
    samples, semseg, (depths, predicted) = _data_samples()
    for sample in samples:
        sample.pred_depth_map.data = sample.pred_depth_map.data.bfloat16()
    rounded = [torch.from_numpy(p).bfloat16().float().numpy() for p in predicted]
    _assert_scores(_evaluate(MultiTaskMetric(), samples), _expected(semseg, (depths, rounded)))


def test_bad_samples_are_named():
    samples, _, _ = _data_samples()
    evaluator = Evaluator(MultiTaskMetric())
    evaluator.process(samples)
    with pytest.raises(EvaluationError, match='counted 5 samples, the data set holds 6'):
        evaluator.evaluate(6)
    samples[1].pred_depth_map.data[0, 3, 4] = math.nan
    with pytest.raises(EvaluationError, match=r'Cannot evaluate /data/val/rgb/1\.jpg: `prediction` should be finite'):
        Evaluator(MultiTaskMetric()).process(samples)
    del samples[0].pred_sem_seg
    with pytest.raises(EvaluationError, match=r'Cannot evaluate /data/val/rgb/0\.jpg: `pred_sem_seg` is missing\.'):
        Evaluator(MultiTaskMetric()).process(samples)
    with pytest.raises(ConfigError, match=r"have the labels \['semseg', 'depth'.*Found 'flow'"):
        MultiTaskMetric(tasks=('flow',)).evaluate(0)


def test_memory_does_not_grow_with_the_number_of_images():
    """mmseg keeps each valid depth pixel of the split: 3.9 GiB over 2,000 images of 256x512."""
    sample = _data_samples()[0][0].to_dict()

    def kept(num_images):
        metric = MultiTaskMetric()
        for _ in range(num_images):
            metric.process(None, [sample])
        return len(pickle.dumps(metric))

    assert 1000 < kept(100) < kept(20) + 500


def test_a_batch_on_the_device_has_the_scores_of_the_host_and_its_invalid_maps_are_named(monkeypatch):
    def samples():
        return [sample.to_dict() for sample in _data_samples()[0]]

    def score(samples):
        metric = MultiTaskMetric()
        metric.process({}, samples)
        return metric.evaluate(len(samples))

    expected = score(samples())
    monkeypatch.setattr(metrics, 'GPU', 'cpu')
    with monkeypatch.context() as patch:
        patch.setattr(metrics, 'get_map', lambda sample, key: pytest.fail(f'{key} was read on the host'))
        assert score(samples()) == pytest.approx(expected, rel=1e-9)
    for name, value in dict(pred_sem_seg=19, gt_sem_seg=77, pred_depth_map=math.nan, gt_depth_map=math.inf).items():
        bad = samples()
        bad[3][name]['data'][0, 2, 2] = value
        with pytest.raises(EvaluationError, match=r'Cannot evaluate .*3\.jpg: '):
            score(bad)


LABELS = build_labels(MINISCAPES_LABELS)
ERRORS = {name: errors_of(kind) for name, kind in LABELS.items()}
ABSOLUTE, LOG = ERRORS['depth'].names


def depth_reference(label, prediction):
    """(absolute relative error in per cent, log error) of a pixel, None without a label."""
    if label <= 0:
        return None
    label, prediction = max(float(label), 0.01), max(float(prediction), 0.01)
    return 100 * abs(prediction - label) / label, math.log(prediction / label)


def test_errors_of_single_pixels():
    truth, guess = np.array([[10.0, 10.0, 0.0, 4.0]], np.float32), np.array([[15.0, 5.0, 7.0, -1.0]], np.float32)
    relative, logarithmic = ERRORS['depth'].measure(truth, guess).values()
    np.testing.assert_allclose(relative, [[50, 50, np.nan, 100 * (4 - 0.01) / 4]], rtol=1e-15)
    np.testing.assert_allclose(logarithmic[0, :2], [math.log(1.5), -math.log(2)], rtol=1e-15)
    classes, others = np.array([[3, 3, 255]], np.uint8), np.array([[3, 4, 4]], np.uint8)
    np.testing.assert_array_equal(*ERRORS['semseg'].measure(classes, others).values(), [[0, 100, np.nan]])
    boundary, probability = np.array([[1, 0, 255]], np.uint8), np.array([[0.75, 0.25, 0.5]], np.float32)
    np.testing.assert_array_equal(*ERRORS['boundary'].measure(boundary, probability).values(), [[25, 25, np.nan]])
    normals, vectors = np.array([[[0, 0, 1.0], [0, 0, 0], [1, 0, 0]]]), np.array([[[0, 2.0, 2.0], [1, 0, 0], [3, 0, 0]]])
    np.testing.assert_allclose(*ERRORS['normals'].measure(normals, vectors).values(), [[45, np.nan, 0]], atol=1e-12)


@pytest.mark.parametrize('name', ERRORS)
def test_maps_of_different_shapes_are_refused(name):
    with pytest.raises(ValueError, match='same shape'):
        ERRORS[name].measure(np.ones((2, 3, 3)), np.ones((3, 2, 3)))


def test_groups_by_distance_are_as_wide_in_the_logarithm_and_lose_no_pixel():
    edges = ERRORS['depth'].group_edges()
    np.testing.assert_allclose(np.diff(np.log(edges)), math.log(300 / 4) / 12, rtol=1e-12)
    values = np.array([0.0, 1.0, 4.0, edges[1], np.nextafter(edges[1], 0), 299.9, 300.0, 5000.0])
    assert ERRORS['depth'].groups(values).tolist() == [-1, 0, 0, 1, 0, 11, 11, 11]


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
    edges = ERRORS['depth'].group_edges()
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
