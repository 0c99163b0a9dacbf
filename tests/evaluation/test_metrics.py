import math
import tracemalloc
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as torch_dist
import torch.multiprocessing as mp
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import mtl_plugins
from mtl_plugins.errors import ConfigError, EvaluationError
from mtl_plugins.evaluation import metrics
from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.functional.depth_errors import DepthScorer
from mtl_plugins.evaluation.functional.on_device import start_measuring
from mtl_plugins.evaluation.metrics import IoUMetric, MultiTaskMetric
from mtl_plugins.labels.cityscapes_classes import CLASSES
from tests.evaluation.random_maps import random_depth_maps, random_semseg_maps
from tests.references.metrics import reference_depth, reference_semseg


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


def _evaluate_rank(rank, world_size, count, store):
    torch_dist.init_process_group(
        'gloo', init_method=f'file://{store}', rank=rank, world_size=world_size, timeout=timedelta(seconds=60)
    )
    try:
        samples, _, _ = _data_samples(count)
        indices = list(range(count))
        indices += indices[: -count % world_size]  # mmengine's DefaultSampler(shuffle=False, round_up=True)
        evaluator = Evaluator(MultiTaskMetric())
        for index in indices[rank::world_size]:
            evaluator.process([samples[index]])
        return evaluator.evaluate(count)
    finally:
        torch_dist.destroy_process_group()


def _other_rank(process_index, world_size, count, store, expected):
    assert _evaluate_rank(process_index + 1, world_size, count, store) == pytest.approx(expected, rel=1e-12)


@pytest.mark.dist
def test_two_processes_with_a_padded_sample_equal_one(tmp_path):
    count, world_size, store = 5, 2, tmp_path / 'store'
    samples, _, _ = _data_samples(count)
    expected = _evaluate(MultiTaskMetric(), samples)
    # This process is rank 0: starting one process fewer halves the time of the test.
    others = mp.spawn(_other_rank, (world_size, count, store, expected), nprocs=world_size - 1, join=False)
    assert _evaluate_rank(0, world_size, count, store) == pytest.approx(expected, rel=1e-12)
    while not others.join():
        pass


def test_memory_does_not_grow_with_the_number_of_images():
    """mmseg keeps each valid depth pixel of the split: 3.9 GiB over 2,000 images of 256x512."""
    samples = [sample.to_dict() for sample in _data_samples()[0]]
    size = 80
    big = {
        key: dict(data=value['data'].repeat(1, size // 16, size // 16)) if isinstance(value, dict) else value
        for key, value in samples[0].items()
    }

    # Of this package alone: threads that other tests left behind allocate as they like.
    ours = tracemalloc.Filter(True, f'{Path(mtl_plugins.__file__).parent}/*', all_frames=True)

    def kept(num_images):
        metric = MultiTaskMetric()
        tracemalloc.start(5)
        for _ in range(num_images):
            metric.process(None, [big])
        traces = tracemalloc.take_snapshot().filter_traces([ours]).traces
        tracemalloc.stop()
        metric.evaluate(num_images)
        return sum(trace.size for trace in traces)

    kept(1)
    assert kept(1000) - kept(20) < 2**18


def _measured(scorer, label, prediction):
    vector, finish = start_measuring(scorer, torch.from_numpy(label)[None], torch.from_numpy(prediction)[None])
    assert vector.dtype == torch.float64 and vector[0] == 0
    return finish(vector.numpy())[0]


@pytest.mark.parametrize('seed', range(4))
def test_on_the_device_each_image_contributes_what_it_does_on_the_host(seed):
    rng = np.random.default_rng(seed)
    classes, depth = ConfusionScorer('semseg', CLASSES), DepthScorer('depth')
    for label, prediction in zip(*random_semseg_maps(rng), strict=True):
        found = _measured(classes, label, prediction)
        assert found.dtype == np.int64 and np.array_equal(found, classes.compare(label, prediction))
    nothing = 0
    for label, prediction in zip(*random_depth_maps(rng), strict=True):
        found, expected = _measured(depth, label, prediction), depth.compare(label, prediction)
        assert (found is None) == (expected is None)
        nothing += expected is None
        if expected is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert nothing == 1


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
