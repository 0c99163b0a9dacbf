"""Maps compared where they lie, against the comparison on the host."""

import numpy as np
import pytest
import torch

from mtl_plugins.errors import EvaluationError
from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.functional.depth_errors import DepthScorer
from mtl_plugins.evaluation.functional.on_device import start_measuring
from mtl_plugins.evaluation.metrics import MultiTaskMetric, label_metric
from mtl_plugins.labels.cityscapes_classes import CLASSES
from tests.evaluation.random_maps import random_depth_maps, random_semseg_maps


def measured(scorer, label, prediction):
    vector, finish = start_measuring(scorer, torch.from_numpy(label)[None], torch.from_numpy(prediction)[None])
    assert vector.dtype == torch.float64 and vector[0] == 0
    return finish(vector.numpy())[0]


@pytest.mark.parametrize('seed', range(4))
def test_each_image_contributes_what_it_does_on_the_host(seed):
    rng = np.random.default_rng(seed)
    classes, depth = ConfusionScorer('semseg', CLASSES), DepthScorer('depth')
    for label, prediction in zip(*random_semseg_maps(rng), strict=True):
        found = measured(classes, label, prediction)
        assert found.dtype == np.int64 and np.array_equal(found, classes.compare(label, prediction))
    nothing = 0
    for label, prediction in zip(*random_depth_maps(rng), strict=True):
        found, expected = measured(depth, label, prediction), depth.compare(label, prediction)
        assert (found is None) == (expected is None)
        nothing += expected is None
        if expected is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert nothing == 1


def make_samples():
    rng = np.random.default_rng(0)
    maps = dict(zip(('gt_sem_seg', 'pred_sem_seg'), random_semseg_maps(rng), strict=True))
    maps |= dict(zip(('gt_depth_map', 'pred_depth_map'), random_depth_maps(rng), strict=True))
    return [
        dict(img_path=f'{index}.jpg', **{name: dict(data=torch.from_numpy(values[index])[None]) for name, values in maps.items()})
        for index in range(5)
    ]


def test_the_scores_of_a_batch_and_what_is_invalid(monkeypatch):
    def score(samples):
        metric = MultiTaskMetric()
        metric.process({}, samples)
        return metric.evaluate(len(samples))

    expected = score(make_samples())
    monkeypatch.setattr(label_metric, 'GPU', 'cpu')
    monkeypatch.setattr(label_metric, 'get_map', lambda sample, key: pytest.fail(f'{key} was read on the host'), raising=True)
    assert score(make_samples()) == pytest.approx(expected, rel=1e-9)
    monkeypatch.undo()
    monkeypatch.setattr(label_metric, 'GPU', 'cpu')
    for name, value in (
        ('pred_sem_seg', 19),
        ('gt_sem_seg', 77),
        ('pred_depth_map', float('nan')),
        ('gt_depth_map', float('inf')),
    ):
        samples = make_samples()
        samples[3][name]['data'][0, 2, 2] = value
        with pytest.raises(EvaluationError, match=r'Cannot evaluate 3\.jpg: '):
            score(samples)
