"""Scores and submissions of predictions that lie on a GPU."""

import csv
import zipfile

import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample

from mtl_plugins.apis.test import WritePredictions
from mtl_plugins.apis.train import train
from mtl_plugins.errors import EvaluationError
from mtl_plugins.evaluation.metrics import MultiTaskMetric
from mtl_plugins.labels.presets import MINISCAPES_LABELS, MINISCAPES_TASKS, build_labels
from mtl_plugins.submission import SubmissionWriter
from tests.cuda.systems import batch_for, build_system
from tests.tiny import tiny_config

pytestmark = pytest.mark.cuda
LABELS = build_labels(MINISCAPES_LABELS, MINISCAPES_TASKS)


@pytest.fixture
def samples(data_root, device) -> list[SegDataSample]:
    """Twelve, predicted in batches on the device."""
    model = build_system('joint_r18-d16_1xb16-32e', data_root).to(device).eval()
    samples = []
    with torch.no_grad():
        for seed in range(3):
            batch = batch_for(model, seed)
            batch['targets']['depth'][1] = 0
            batch['metainfo'] = [dict(img_path=f'{4 * seed + i}.jpg', ori_shape=(60, 90)) for i in range(4)]
            samples += model.test_step(batch)
    assert all(sample.pred_depth_map.data.device.type == device.type for sample in samples)
    return samples


def score(samples) -> dict[str, float]:
    metric = MultiTaskMetric()
    metric.process({}, [sample.to_dict() for sample in samples])
    return metric.evaluate(len(samples))


def test_scores_are_those_of_the_predictions_on_the_cpu(samples):
    expected = score([sample.cpu() for sample in samples])
    assert expected['metrics_summary/semseg'] > 0 and expected['metrics_summary/depth'] > 0
    assert score(samples) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize('field', ['pred_depth_map', 'pred_sem_seg'])
def test_an_invalid_prediction_is_named(samples, field):
    data = samples[5].get(field).data
    data[0, 7, 9] = torch.nan if data.is_floating_point() else 77
    with pytest.raises(EvaluationError, match=r'Cannot evaluate .*5\.jpg: .*prediction'):
        score(samples)


def test_the_submission_is_that_of_the_predictions_on_the_cpu(samples, tmp_path):
    files = []
    for folder, those in dict(gpu=samples, cpu=[sample.cpu() for sample in samples]).items():
        with SubmissionWriter(tmp_path / folder, LABELS) as writer:
            WritePredictions(writer).after_test_iter(None, 0, None, those)
        root = tmp_path / folder / 'predictions'
        files.append({str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*.png')})
    assert len(files[0]) == 24 and files[0] == files[1]
    code = LABELS['semseg'].from_png(files[0]['semseg/3.png'], (60, 90))
    assert np.array_equal(code, samples[3].pred_sem_seg.data[0].cpu().numpy())


def test_a_run_from_data_to_archive(data_root, tmp_path, device):
    """The default settings, with every hook."""
    config = tiny_config(data_root, tmp_path / 'run', train_cfg__max_epochs=2, default_hooks__pictures__observed__interval=1)
    config.default_hooks.histograms.interval = config.default_hooks.pictures.training.interval = 2
    result = train(config)
    (row, *_) = csv.DictReader((tmp_path / 'run' / 'metrics.csv').open())
    assert float(row['metrics_summary/depth']) > 0 and float(row['val/loss']) > 0
    with zipfile.ZipFile(result.archive) as archive:
        assert {f'predictions/{task}/{stem}.png' for task in LABELS for stem in range(3)} <= set(archive.namelist())
