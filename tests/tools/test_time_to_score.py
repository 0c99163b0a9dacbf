"""Trainings that end at a score, and the table of what that took them."""

import json

import pytest
import torch

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.experiments.time_to_score import first_to_reach, read_targets, table_in_markdown
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.record import read_record_file, training_time
from mtl_plugins.registry import RUNNERS
from tests.tiny import ROOT, tiny_config

SEMSEG, DEPTH = 'metrics_summary/semseg', 'metrics_summary/depth'
PLANS = [ROOT / f'docs/{name}/plan.json' for name in ('time_to_score', 'recipe')]


def test_a_training_ends_at_the_first_validation_that_reaches_all_targets(
    run_cli, in_process, tiny_config_file, data_root, tmp_path
):
    plan = dict(
        about='a test', data={}, seeds=[0], amp=False, common={}, targets={'mIoU': 100}, val_iters=8,
        tables=[dict(title='', rows={'tiny': dict(config=str(tiny_config_file))})],
    )  # fmt: skip
    path = tmp_path / 'plan.json'
    path.write_text(json.dumps(plan))
    arguments = (path, '--data-root', data_root, '--work-dir', tmp_path / 'runs')
    done = run_cli('analysis_tools/time_to_score', *arguments, '--target', 'mIoU=0', 'SI-logRMSE=1000', '--val-iters', 3)
    assert done.code == 0, done.err
    (validation,) = json.loads((tmp_path / 'results/tiny_seed0.json').read_text())['validations']
    assert validation['iter'] == 3 and {SEMSEG, DEPTH} <= validation.keys()
    assert validation['train_seconds'] > 0 and validation['train_cpu_seconds'] > 0
    assert '| tiny | ' in (tmp_path / 'table.md').read_text()


def test_validating_within_epochs_changes_nothing_in_the_training(data_root, tmp_path):
    weights, length = [], dict(train_cfg__max_epochs=2, param_scheduler__0__end=2)
    for name, changes in dict(epochs={}, within=dict(train_cfg__val_iters=3, train_cfg__stop_at={SEMSEG: 100.0})).items():
        runner = RUNNERS.build(tiny_config(data_root, tmp_path / name, **length, **changes))
        runner.train()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in runner.model.parameters()]))
    assert torch.equal(*weights)
    iterations = [int(row['iter']) for row in read_metrics(tmp_path / 'within' / 'metrics.csv')]
    assert iterations == list(range(3, runner.iter + 1, 3)) and len(iterations) > 1
    times = [entry['train_seconds'] for entry in read_record_file(tmp_path / 'within')['validations']]
    assert len(times) == len(iterations) and times == sorted(times) and times[0] > 0


def test_iterations_that_were_done_twice_count_once():
    """A training that was killed at iteration 130 and went on from the checkpoint of 100, twice, the first time for nothing."""
    sessions = [
        dict(from_iter=0, iterations=130, train_seconds=13.0),
        dict(from_iter=100, iterations=0, train_seconds=0.5),
        dict(from_iter=100, iterations=50, train_seconds=8.0),
    ]
    assert training_time(sessions) == pytest.approx(10.0 + 8.0)
    assert training_time(sessions[-1:]) == 8.0


def document(row, seed, *validations):
    rows = [dict(zip(('iter', 'train_seconds', 'train_cpu_seconds', SEMSEG, DEPTH), each, strict=True)) for each in validations]
    return dict(
        row=row, seed=seed, parameters=1234, validations=rows, commit='0123456789', date='2026-01-01T00:00:00', device='cpu',
        versions=dict(torch='2'),
    )  # fmt: skip


def test_the_table_counts_the_first_validation_that_reaches_both(tmp_path):
    targets = {SEMSEG: 30.0, DEPTH: 36.0}
    slow = [
        (50, 10.0, 20.0, 31.0, 40.0),
        (100, 20.0, 40.0, 29.0, 35.0),
        (150, 30.0, 60.0, 30.0, 36.0),
        (200, 40.0, 80.0, 50.0, 20.0),
    ]
    documents = [
        document('slow', 0, *slow),
        document('slow', 1, *((iteration, 2 * wall, 2 * cpu, *scores) for iteration, wall, cpu, *scores in slow)),
        document('fast', 0, (50, 5.0, 9.0, 30.0, 36.0)),
        document('never', 0, (50, 5.0, 9.0, 30.0, 36.1)),
    ]
    for number, content in enumerate(documents):
        (tmp_path / f'{number}.json').write_text(json.dumps(content))
    assert first_to_reach(documents[0], targets)['iter'] == 150 and first_to_reach(documents[3], targets) is None
    plan = dict(tables=[dict(rows=dict(slow={}, fast={}, never={}))])
    lines = table_in_markdown(plan, tmp_path, targets, 50).splitlines()
    assert lines[0].startswith('| recipe, to 30 mIoU and 36 SI-logRMSE |')
    assert lines[2] == '| slow | 1,234 | 2 of 2 | 150 ± 0 | 45 ± 21 | 90 ± 42 | 1.00 |'
    assert lines[3] == '| fast | 1,234 | 1 of 1 | 50 | 5 | 9 | 10.00 |'
    assert lines[4] == '| never | 1,234 | 0 of 1 | more than 50 | more than 5 | more than 9 | less than 10.00 |'
    plan = dict(tables=[dict(rows=dict(never={}, slow={}))])
    lines = table_in_markdown(plan, tmp_path, targets, 50).splitlines()
    assert lines[2].endswith('| more than 9 |  |') and lines[3].endswith('| more than 0.10 |')


def test_a_target_that_is_no_score_is_refused():
    assert read_targets({'mIoU': 30, SEMSEG: 31}) == {SEMSEG: 31.0}
    with pytest.raises(ConfigError, match='Found accuracy'):
        read_targets({'accuracy': 30})
    with pytest.raises(ConfigError, match='Found none'):
        read_targets({})


@pytest.mark.parametrize('path', PLANS, ids=lambda path: path.parent.name)
def test_the_configs_of_a_documented_plan_take_its_options(path):
    plan = json.loads(path.read_text())
    if path.parent.name == 'time_to_score':
        assert read_targets(plan['targets']) and plan['val_iters'] > 0
    for table in plan['tables']:
        for row in table['rows'].values():
            config = load_config(str(ROOT / row['config']), {**plan['common'], **row.get('options', {})})
            assert config.param_scheduler[-1].end >= config.train_cfg.max_epochs
