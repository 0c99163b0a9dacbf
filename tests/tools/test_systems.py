"""Every system trains, validates, submits and resumes, tiny."""

import csv
import zipfile

import pytest

from mtl_plugins.apis.train import train
from tests.tiny import CONFIGS, check_same_end, tiny_config

TASKS = ('semseg', 'depth')
SYSTEMS = {
    'baseline_r18-d32_1xb16-16e': TASKS,
    'baseline-semseg_r18-d32_1xb16-16e': ('semseg',),
    'deeplabv3plus-semseg_r18-d16_1xb16-32e': ('semseg',),
    'deeplabv3plus-depth_r18-d16_1xb16-32e': ('depth',),
    'branched_r18-d16_1xb16-32e': TASKS,
    'distilled_r18-d16_1xb16-32e': TASKS,
    'distilled_r34-d16_1xb4-64e_course2020-deep-pretrained': TASKS,
    'fixed_bins_r18-d16_1xb16-32e': ('depth',),
    'adaptive_depth_r18-d16_1xb16-32e': ('depth',),
    'transformer_multitask-self_r18-d16_1xb16-32e': TASKS,
    'transformer_multitask-cross_r18-d16_1xb16-32e': TASKS,
}
# One of each family; the others share all that a resumption could lose.
RESUMED = ('distilled_r18-d16_1xb16-32e', 'adaptive_depth_r18-d16_1xb16-32e')


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch):
    """mmengine pretty-prints the config for each checkpoint and log: that would take as long as all the rest here."""
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda code, **_: (code, True))


@pytest.fixture
def run(data_root, tmp_path):
    """``run(system, folder, epochs)`` trains its config, tiny, and gives the result."""

    def run(system, folder, epochs, submission=False, resume=False):
        (path,) = CONFIGS.glob(f'*/{system}_miniscapes-256x256.py')
        config = tiny_config(data_root, tmp_path / folder, path, train_cfg__max_epochs=epochs, resume=resume)
        config.submission.enabled = submission
        # Then the random numbers have to be those of an uninterrupted run, too.
        for head in (config.model.decode_head.head, *config.model.decode_head.get('task_heads', {}).values()):
            if 'dropout' in head:
                head.dropout = 0.1
        return train(config)

    return run


def check_scores_and_archive(result, tasks) -> None:
    rows = list(csv.DictReader((result.archive.parent / 'metrics.csv').open()))
    assert rows and all({task for task in TASKS if row.get(f'metrics_summary/{task}')} == set(tasks) for row in rows)
    with zipfile.ZipFile(result.archive) as archive:
        predictions = {name for name in archive.namelist() if name.startswith('predictions/')}
    assert predictions == {f'predictions/{task}/{stem}.png' for task in tasks for stem in range(3)}


@pytest.mark.parametrize('system', [name for name in SYSTEMS if name not in RESUMED])
def test_a_system_trains_validates_and_submits(run, system):
    check_scores_and_archive(run(system, 'run', 1, submission=True), SYSTEMS[system])


@pytest.mark.parametrize('system', [pytest.param(name, marks=() if name in RESUMED else pytest.mark.slow) for name in SYSTEMS])
def test_a_system_resumes_exactly(run, tmp_path, system):
    check_scores_and_archive(run(system, 'straight', 2, submission=True), SYSTEMS[system])
    run(system, 'resumed', 1)
    run(system, 'resumed', 2, resume=True)
    check_same_end(tmp_path / 'straight', tmp_path / 'resumed', 'state_dict', 'optimizer')
    assert (tmp_path / 'straight' / 'metrics.csv').read_text() == (tmp_path / 'resumed' / 'metrics.csv').read_text()
