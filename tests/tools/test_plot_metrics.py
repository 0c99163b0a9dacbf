"""Curves of several runs: what the tool prints, draws and refuses."""

import shutil

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.records.metrics_file import read_metrics

METRIC = 'metrics_summary/semseg'


@pytest.fixture
def runs(tmp_path):
    """Two work dirs: one that rises, and one whose second validation has no value."""
    for name, values in {'slow': (10.0, 30.0, 20.0), 'fast': (40.0, '', 50.0)}.items():
        (tmp_path / name).mkdir()
        rows = [f'{epoch},{100 * epoch},{value}' for epoch, value in enumerate(values, 1)]
        (tmp_path / name / 'metrics.csv').write_text('\n'.join([f'epoch,iter,{METRIC}', *rows]) + '\n')
    return tmp_path / 'slow', tmp_path / 'fast'


@pytest.mark.parametrize(
    ('arguments', 'slow', 'fast'),
    [
        ((), ['slow', '3', '20.00', '30.00', '200'], ['fast', '2', '50.00', '50.00', '100']),
        (('--lower-is-better', '--names', 'a', 'b'), ['a', '3', '20.00', '10.00', '100'], ['b', '2', '50.00', '40.00', 'never']),
    ],
)
def test_the_table_says_when_a_value_is_reached(run_cli, runs, arguments, slow, fast):
    result = run_cli('analysis_tools/plot_metrics', *runs, '--metric', 'mIoU', '--reach', '25', *arguments).check()
    rows = [line.split() for line in result.out.splitlines()]
    assert slow in rows and fast in rows


def test_runs_of_one_name_share_a_colour(run_cli, runs, tmp_path):
    coloured = {}
    for names in (('one', 'two'), ('one', 'one')):
        out = tmp_path / f'{"-".join(names)}.png'
        run_cli('analysis_tools/plot_metrics', *runs, '--metric', METRIC, '--out', out, '--names', *names).check()
        pixels = np.asarray(Image.open(out).convert('RGB')).reshape(-1, 3)
        coloured[names] = [(pixels == colour).all(1).any() for colour in ((0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00))]
    assert coloured == {('one', 'two'): [True, True], ('one', 'one'): [True, False]}


def test_metrics_of_a_run_share_a_picture(run_cli, runs):
    path = runs[0] / 'metrics.csv'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([f'{lines[0]},train/{METRIC}', *(f'{line},{50 + k}' for k, line in enumerate(lines[1:]))]) + '\n')
    result = run_cli('analysis_tools/plot_metrics', runs[0], '--metric', METRIC, '--metric', f'train/{METRIC}').check()
    rows = [line.split() for line in result.out.splitlines()]
    assert ['slow:', METRIC, '3', '20.00', '30.00'] in rows and ['slow:', f'train/{METRIC}', '3', '52.00', '52.00'] in rows


def test_curves_over_epochs_and_hours_and_of_what_the_training_logs(run_cli, finished_run, tmp_path):
    run, metric = shutil.copytree(finished_run, tmp_path / 'tiny_seed0'), 'metrics_summary/depth'
    for axis, name in (('epoch', metric), ('hours', metric), ('epoch', 'loss')):
        out = tmp_path / f'{axis}-{name[:4]}.png'
        result = run_cli('analysis_tools/plot_metrics', run, run, '--metric', name, '--x', axis, '--out', out).check()
        # The name without its seed.
        assert ' tiny ' in result.out and out.exists()
    best = min(float(row[metric]) for row in read_metrics(run / 'metrics.csv'))
    assert f'{best:.2f}' in run_cli('analysis_tools/plot_metrics', run, '--metric', metric).out


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--metric', 'mIuO'), [METRIC, 'Found mIuO']),
        (('--metric', METRIC, '--names', 'one'), ['each of the 2 runs']),
        (('--metric', METRIC, '--out', 'curves.svg'), ['.png', 'curves.svg']),
    ],
)
def test_what_cannot_be_drawn_is_refused(run_cli, runs, arguments, words):
    result = run_cli('analysis_tools/plot_metrics', *runs, *arguments)
    assert result.code != 0 and all(word in result.err for word in words)


def test_a_folder_that_is_no_run_is_named(run_cli, runs, tmp_path):
    run_cli('analysis_tools/plot_metrics', tmp_path, '--metric', METRIC).check_refused(str(tmp_path / 'metrics.csv'))
    (runs[0] / 'metrics.csv').write_text(f'epoch,iter,{METRIC}\n1,100,high\n')
    run_cli('analysis_tools/plot_metrics', runs[0], '--metric', METRIC).check_refused('high')
