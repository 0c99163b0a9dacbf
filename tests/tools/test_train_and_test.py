"""From a config to graded predictions, through the tools."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest
import torch
from mmengine.config import Config

from mtl_plugins.cli.test import set_protocol
from mtl_plugins.config.options import LOCK_NAME
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from tests.tools.photographs import save_checkpoint


@pytest.fixture
def trained(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / 'run')


def _archive(work_dir):
    (path,) = work_dir.glob('*.zip')
    return path


def test_training_ends_with_an_archive_that_the_grader_takes(run_cli, trained, data_root, tmp_path):
    archive = _archive(trained)
    assert archive.name.startswith('T00_') and '_tiny_' in archive.name
    with zipfile.ZipFile(archive) as content:
        names = set(content.namelist())
        assert 'source.zip' in names and not any('checkpoints' in name for name in names)
        (tmp_path / 'source.zip').write_bytes(content.read('source.zip'))
    with zipfile.ZipFile(tmp_path / 'source.zip') as source:
        assert 'mtl_plugins/engine/runner.py' in source.namelist()
        assert "type='TinyBackbone'" in source.read('cmd.txt').decode()
    scores = tmp_path / 'scores.json'
    run_cli('submission_tools/grade_submission', archive, '--labels', data_root / 'grader' / 'test', '--json', scores).check()
    assert 'metrics_summary/multitask' in json.loads(scores.read_text())
    # Only what a person would look for is left behind.
    assert [path.name for path in trained.iterdir() if path.name.startswith('.')] == [LOCK_NAME]


def test_a_checkpoint_alone_is_tested_analysed_and_exported_by_its_own_config(run_cli, trained, tiny_config_file, data_root):
    path, scores, out = find_latest_checkpoint(trained), [], trained.parent
    for model in ([tiny_config_file, path], [path]):
        json_path = out / f'{len(model)}.json'
        options = ['--data-root', data_root, '--out', out / 'log', '--batch-size', '1', '--tta']
        run_cli('test', *model, *options, '--json', json_path).check()
        scores.append(json.loads(json_path.read_text()))
    assert scores[0] == scores[1] and len(scores[0]) > 20
    run_cli('analysis_tools/analyse_errors', path, '--by', 'mIoU', '--out', out / 'errors').check()
    run_cli('analysis_tools/compare_models', path, tiny_config_file, path, '--names', 'a', 'b', *options[:2]).check()
    assert run_cli('test', tiny_config_file).code == run_cli('test', path, path).code == 2
    run_cli('test', path, '--cfg-options', 'tta_model.scals=1').check_refused('Did you mean `scales`')
    run_cli('test', path, '--data-root', 'nowhere').check_refused("'nowhere' does not exist")
    run_cli('test', out / 'none.pth').check_refused('none.pth does not exist')


def test_depth_is_compared_by_another_protocol(run_cli, trained, tiny_config_file, data_root):
    out = trained / 'eigen.json'
    arguments = ['test', tiny_config_file, find_latest_checkpoint(trained), '--data-root', data_root]
    result = run_cli(*arguments, '--protocol', 'eigen', '--alignment', 'median', '--json', out)
    assert result.code == 0 and 'protocol eigen, median alignment' in result.out
    scores = json.loads(out.read_text())
    assert scores['protocol'] == 'eigen, median alignment' and 'metrics_task_depth/rel' in scores


def test_two_processes_do_not_train_in_one_work_dir(run_cli, tiny_config_file, data_root, tmp_path):
    (tmp_path / 'run').mkdir()
    arguments = ('train', tiny_config_file, '--work-dir', tmp_path / 'run', '--data-root', data_root, '--no-submission')
    code = (
        'import multiprocessing, sys, time; from pathlib import Path; from mtl_plugins.utils.files import hold_lock\n'
        'assert hold_lock(Path(sys.argv[1]))\n'
        'multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()\n'
        'print("held", flush=True); time.sleep(60)'
    )
    with subprocess.Popen(
        [sys.executable, '-c', code, tmp_path / 'run' / LOCK_NAME], stdout=subprocess.PIPE, start_new_session=True
    ) as other:
        assert other.stdout.readline() == b'held\n'
        result = run_cli(*arguments)
        assert result.code == 1 and 'Another process is training in' in result.err, result.err
        assert [path.name for path in (tmp_path / 'run').iterdir()] == [LOCK_NAME]
        other.kill()
        other.wait()
        # The child, as a loader's worker, may live longer; the lock may not.
        result = run_cli(*arguments, '--cfg-options', 'train_cfg.max_epochs=1')
        os.killpg(other.pid, signal.SIGKILL)
    assert result.code == 0, result.err


def test_paths_are_printed_as_a_person_would_type_them(run_cli, tiny_config_file, data_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_cli('train', tiny_config_file, '--data-root', data_root, '--cfg-options', 'train_cfg.max_epochs=1').check()
    (log,) = tmp_path.glob('work_dirs/tiny/*/*.log')
    messages = [line for line in log.read_text().splitlines() if 'INFO' in line and ('.pth' in line or '.zip' in line)]
    for words in ('Best checkpoint: work_dirs/tiny/best_', 'Submission: work_dirs/tiny/T00'):
        assert any(words in line for line in messages), words
    assert not [line for line in messages if str(tmp_path) in line]


def test_resuming_a_finished_run_for_longer_keeps_its_name_and_history(run_cli, trained, tiny_config_file, data_root):
    name = _archive(trained).name
    for argument in ([], [find_latest_checkpoint(trained)]):
        run_cli(
            'train', tiny_config_file, '--work-dir', trained, '--data-root', data_root,
            '--cfg-options', f'train_cfg.max_epochs={3 + len(argument)}', '--resume', *argument,
        ).check()  # fmt: skip
    assert _archive(trained).name == name
    rows = read_metrics(trained / 'metrics.csv')
    assert [row['epoch'] for row in rows] == ['1', '2', '3', '4']


def test_a_run_resumed_into_another_work_dir_without_its_best_checkpoint_leaves_the_first_as_it_is(
    run_cli, trained, tiny_config_file, data_root
):
    next(trained.glob('best_*.pth')).unlink()
    before, other = {path: path.stat().st_mtime_ns for path in trained.iterdir()}, trained.parent / 'other'
    arguments = ('train', tiny_config_file, '--data-root', data_root, '--resume', find_latest_checkpoint(trained))
    run_cli(*arguments, '--work-dir', other, '--cfg-options', 'train_cfg.max_epochs=3').check()
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before
    assert len(list(other.glob('*.zip'))) == 1
    # Nor is a third run continued in a folder that holds another.
    result = run_cli(*arguments, '--work-dir', other)
    assert result.code == 1 and 'already holds a run' in result.err


def test_the_test_split_is_predicted_from_any_checkpoint(run_cli, trained, tiny_config_file, data_root, monkeypatch):
    monkeypatch.setenv('MTL_DATA_ROOT', str(data_root))
    archive = trained.parent / 'again.zip'
    (best,) = trained.glob('best_*.pth')
    unscored = ('test', tiny_config_file, best, '--split', 'test', '--work-dir', trained.parent / 'test')
    run_cli(*unscored).check_refused('no `test_evaluator`', '--submission OUT.zip')
    run_cli(*unscored, '--submission', archive, '--protocol', 'mtan').check_refused('--protocol has no effect')
    run_cli(
        'test', tiny_config_file, best, '--split', 'test', '--submission', archive, '--include-checkpoint',
        '--work-dir', trained.parent / 'test',
    ).check()  # fmt: skip
    with zipfile.ZipFile(archive) as again, zipfile.ZipFile(_archive(trained)) as first:
        assert f'checkpoints/{best.name}' in again.namelist()
        for name in first.namelist():
            if name.startswith('predictions/') or name == 'metrics.csv':
                assert again.read(name) == first.read(name), name


def test_a_protocol_is_that_of_both_splits():
    config = Config(dict(val_evaluator=dict(type='MultiTaskMetric'), test_evaluator=[dict(type='MultiTaskMetric')]))
    set_protocol(config, 'eigen', 'median')
    expected = dict(type='MultiTaskMetric', protocol='eigen', alignment='median')
    assert config.val_evaluator == expected and config.test_evaluator == [expected]


def test_no_submission_and_amp(run_cli, tiny_config_file, data_root, tmp_path):
    result = run_cli(
        'train', tiny_config_file, '--work-dir', tmp_path / 'run', '--data-root', data_root, '--no-submission', '--amp',
        '--cfg-options', 'train_cfg.max_epochs=1', 'optim_wrapper.accumulative_counts=2',
    ).check()  # fmt: skip
    assert not list((tmp_path / 'run').glob('*.zip'))
    (config,) = (tmp_path / 'run').glob('tiny.py')
    assert 'Bf16OptimWrapper' in config.read_text()
    # Labels of any kind trained without a word on what they hold.
    assert 'INFO - semseg, in 8 training samples: 19 of 19 classes' in result.out
    assert 'INFO - depth, in 8 training samples: 4 .. 300 m' in result.out
    assert load_checkpoint_file(find_latest_checkpoint(tmp_path / 'run'))['meta']['epoch'] == 1


TOOL = """
from resource import RUSAGE_SELF, getrusage
from mtl_plugins.utils.cli import run_tool

def main():
    import torch
    for _ in range(5):  # The first ones find their places.
        before = getrusage(RUSAGE_SELF).ru_minflt
        for _ in range(4):
            torch.ones(3 << 20, dtype=torch.uint8)
            torch.ones(80 << 20, dtype=torch.uint8)
        faults = getrusage(RUSAGE_SELF).ru_minflt - before
    print(faults)

run_tool(main, keep_memory=%s)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')
def test_memory_that_a_tool_frees_stays_at_hand_unless_the_user_has_chosen():
    def faults(keep_memory, **environment):
        command = [sys.executable, '-c', TOOL % keep_memory]
        # Huge pages have fewer faults, and need them all the same.
        environment = {**os.environ, 'THP_MEM_ALLOC_ENABLE': '0', **environment}
        return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    assert faults(True) < 100 < 10_000 < faults(False)
    assert faults(True, MALLOC_TRIM_THRESHOLD_='131072') > 10_000
    assert faults(True, GLIBC_TUNABLES='glibc.malloc.trim_threshold=131072') > 10_000


IDENTITY = ('tta_model.scales=[1.0]', 'tta_model.flip=False')


@pytest.fixture
def run_test(run_cli, tiny_config_file, data_root, tmp_path):
    """``run_test(name, *arguments)`` runs the tool with a checkpoint and a work dir of that name."""
    weights = save_checkpoint(tmp_path / 'weights.pth', tiny_config_file, whole=True)
    content = torch.load(weights)
    # Without training, all is about 1 m away, nearer than the codes of a PNG.
    content['state_dict']['decode_head.head.predictor.bias'][19] += 3
    torch.save(content, weights)
    common = ('test', tiny_config_file, weights, '--data-root', data_root, '--work-dir')
    return lambda name, *arguments: run_cli(*common, tmp_path / name, *arguments)


def test_merged_predictions_are_evaluated_and_submitted_and_graded_alike(run_test, run_cli, data_root, tmp_path):
    files, scores = {}, {}
    by_task = 'tta_model.scales={"semseg":[0.5,1.0],"depth":[1.0]}'
    # A config without a test split used to lose its views.
    own = ['--tta', '--cfg-options', by_task, 'tta_model.merge.depth=median', 'test_dataloader=None']
    for name, arguments in dict(plain=[], merged=['--tta'], own=own, identity=['--tta', '--cfg-options', *IDENTITY]).items():
        archive, document = tmp_path / f'{name}.zip', tmp_path / f'{name}.json'
        result = run_test(name, '--submission', archive, '--json', document, *arguments).check()
        assert 'metrics_task_semseg/road' in result.out
        scores[name] = json.loads(document.read_text())
        run_cli('submission_tools/grade_submission', archive, '--labels', data_root / 'val', '--json', document).check()
        # Numbers of depth are those of the predictions as they are stored, see tests/submission/test_grader.py.
        graded = json.loads(document.read_text())
        assert graded.keys() == scores[name].keys()
        classes = {key: value for key, value in scores[name].items() if 'semseg' in key}
        assert {key: graded[key] for key in classes} == pytest.approx(classes, abs=1e-9)
        with zipfile.ZipFile(archive) as content:
            files[name] = {each: content.read(each) for each in content.namelist() if each.startswith('predictions/')}
    assert files['plain'] == files['identity'] and files['plain'].keys() == files['merged'].keys() and len(files['plain']) == 6
    changed = {name.split('/')[1] for name, content in files['plain'].items() if content != files['merged'][name]}
    assert changed == {'semseg', 'depth'}
    (log,) = (tmp_path / 'merged').glob('*/*.log')
    assert 'Test-time augmentation: 6 views (scale 0.75, 1, 1.25, each also mirrored), merging semseg: mean' in log.read_text()
    assert scores['plain'].keys() == scores['merged'].keys() == scores['own'].keys()
    assert scores['plain'] == scores['identity'] and len({str(each) for each in scores.values()}) == 3
