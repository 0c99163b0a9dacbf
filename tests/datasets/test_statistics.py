"""Statistics against NumPy over all pixels at once, and the tools that print and pack."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.packing.statistics import collect_histograms, summarise
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.labels.counts import mean_and_std
from mtl_plugins.models.tasks import SemSegTask
from tests.fake_miniscapes import write_fake_miniscapes

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_tools'


def run_tool(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOLS / name), run_name='__main__')
    return stop.value.code


def test_statistics_tool_equals_numpy_over_all_pixels(tmp_path, monkeypatch, capsys):
    root = write_fake_miniscapes(tmp_path / 'data')
    assert not run_tool(monkeypatch, 'compute_statistics.py', root, '--json', tmp_path / 'out.json')
    summary = json.loads((tmp_path / 'out.json').read_text())
    train = root / 'train'
    images = np.stack([np.array(Image.open(train / 'rgb' / f'{i}.jpg')) for i in range(4)]).astype(np.float64)
    labels = np.stack([np.array(Image.open(train / 'semseg' / f'{i}.png')) for i in range(4)])
    codes = np.stack([np.array(Image.open(train / 'depth' / f'{i}.png')) for i in range(4)]).astype(np.float64)

    assert summary['num_images'] == 4
    # PIL's JPEG decoder may round differently from OpenCV's.
    np.testing.assert_allclose(summary['rgb']['mean'], images.mean((0, 1, 2)), atol=0.2)
    np.testing.assert_allclose(summary['rgb']['std_unit'], images.std((0, 1, 2)) / 255, atol=1e-3)

    metres = 1 / (1 / 300 + (codes[codes > 0] - 1) / 254 * (1 / 4 - 1 / 300))
    for name, values in dict(metres=metres, log=np.log(metres), inverse=1 / metres).items():
        np.testing.assert_allclose(summary['depth'][name]['mean'], values.mean(), rtol=1e-12)
        np.testing.assert_allclose(summary['depth'][name]['std'], values.std(), rtol=1e-12)
    assert summary['depth']['invalid_share'] == pytest.approx((codes == 0).mean(), abs=1e-15)

    valid = labels[labels != 255]
    assert list(summary['semseg']['frequencies']) == list(CLASSES)
    np.testing.assert_allclose(
        list(summary['semseg']['frequencies'].values()), [(valid == c).mean() for c in range(19)], rtol=1e-12
    )
    assert summary['semseg']['ignored_share'] == pytest.approx((labels == 255).mean(), abs=1e-15)

    shares = np.array(list(summary['semseg']['frequencies'].values()))
    weights = 1 / np.log(1.1 + shares)
    assert summary['semseg']['class_weight'] == pytest.approx(weights / (weights * shares).sum(), abs=0.0051)

    table = capsys.readouterr().out
    assert f'{metres.mean():.6f}' in table and 'semseg, bicycle' in table
    printed = json.loads(table.split('class_weight')[1].split()[0])
    assert SemSegTask(loss=dict(type='UpsampledCrossEntropyLoss', class_weight=printed)).criteria[0].class_weight.shape == (19,)


def test_split_without_labels(tmp_path):
    image = np.full((2, 3, 3), (10, 20, 30), np.uint8)
    summary = summarise(collect_histograms([dict(img=image)] * 2, {}), {})
    assert summary == dict(
        num_images=2,
        rgb=dict(mean=[10, 20, 30], std=[0, 0, 0], mean_unit=[10 / 255, 20 / 255, 30 / 255], std_unit=[0, 0, 0]),
    )


def test_no_valid_pixel_gives_nan_not_zero():
    assert np.isnan(mean_and_std(np.arange(255), np.zeros(255))).all()


def test_standard_deviation_of_large_counts_does_not_cancel():
    """Mean of squares minus square of means loses all digits here."""
    mean, std = mean_and_std(np.array([1e8, 1e8 + 1]), np.array([10**12, 10**12]))
    assert (mean, std) == (1e8 + 0.5, 0.5)


def test_pack_tool(tmp_path, monkeypatch, capsys):
    root = write_fake_miniscapes(tmp_path / 'data')
    assert not run_tool(monkeypatch, 'pack_dataset.py', root)
    assert sorted(str(path.relative_to(root)) for path in root.glob('*/packed')) == ['test/packed', 'train/packed', 'val/packed']
    assert '4 samples' in capsys.readouterr().out


@pytest.mark.parametrize('tool', ['pack_dataset.py', 'compute_statistics.py'])
def test_tools_explain_bad_input_in_one_line(tmp_path, monkeypatch, capsys, tool):
    assert run_tool(monkeypatch, tool, tmp_path / 'nowhere') == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith('error: The data root') and '\n' not in error
