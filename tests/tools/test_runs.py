"""`tools/runs.py` at work, and what it refuses."""

import csv
import io
import json

import pytest


@pytest.fixture
def work_dirs(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    for name, lr, score in (('one', 0.1, 3.0), ('two', 0.01, 30.0)):
        folder = tmp_path / 'work' / name
        folder.mkdir(parents=True)
        config = dict(optim_wrapper=dict(lr=lr), model=dict(depth=18))
        record = dict(state='finished', config=config, scores={'metrics_summary/multitask': score}, archive='T00.zip')
        (folder / 'run.json').write_text(json.dumps(record))
        (folder / 'last_checkpoint').write_text('epoch_2.pth')
        for epoch in (1, 2):
            (folder / f'epoch_{epoch}.pth').write_bytes(bytes(2**20))
    return tmp_path / 'work'


def test_list_note_export_and_sheet(run_cli, work_dirs, tmp_path):
    result = run_cli('runs', 'list', work_dirs, '--sort', 'multitask', '--where', 'multitask > 1')
    assert result.code == 0, result.err
    header, *rows = (line.split() for line in result.out.splitlines())
    assert header == ['run', 'state', 'epoch', 'multitask', 'lr', 'time']
    assert rows == [['two', 'finished', '30.00', '0.01'], ['one', 'finished', '3.00', '0.1']]
    graded = tmp_path / 'graded.json'
    graded.write_text(json.dumps({'metrics_summary/multitask': 28.5}))
    result = run_cli('runs', 'note', work_dirs / 'two', 'the better one', '--tag', 'kept', '--task', '2', '--graded', graded)
    assert result.code == 0, result.err
    assert 'the better one' in run_cli('runs', 'show', work_dirs / 'two').out
    (row,) = csv.DictReader(io.StringIO(run_cli('runs', 'score-sheet', work_dirs, '--where', 'tags ~ kept').out))
    assert (row['task'], row['notes'], row['validation multitask'], row['grader multitask']) == (
        '2',
        'the better one',
        '30.0',
        '28.5',
    )
    result = run_cli('runs', 'export', work_dirs, '--out', tmp_path / 'table.tex')
    assert result.code == 0 and r'\toprule' in (tmp_path / 'table.tex').read_text()


def test_prune_removes_nothing_unless_told_to(run_cli, work_dirs):
    result = run_cli('runs', 'prune', work_dirs, '--where', 'multitask < 10')
    assert 'Would remove 1 checkpoints, 1.0 MiB' in result.out and (work_dirs / 'one' / 'epoch_1.pth').exists()
    result = run_cli('runs', 'prune', work_dirs, '--where', 'multitask < 10', '--yes')
    assert result.code == 0, result.err
    assert sorted(path.name for path in work_dirs.rglob('*.pth')) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_2.pth']
    assert not (work_dirs / 'one' / 'epoch_1.pth').exists()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('list', '{}/nowhere'), ['nowhere', 'does not exist']),
        (('list', '{}', '--where', 'lr ?'), ['KEY OP VALUE']),
        (('list', '{}', '--sort', 'optim_wrapper.lt'), ['optim_wrapper.lr']),
        (('list', '{}', '--watch'), ['terminal']),
        (('show', '{}'), ['no work dir']),
        (('note', '{}', 'text'), ['run.json', 'does not exist']),
        (('note', '{}/one', '--graded', '{}/one/run.json'), ['grade_submission.py']),
        (('export', '{}', '--out', 'table.pdf'), ['.tex', 'table.pdf']),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(run_cli, work_dirs, arguments, words):
    result = run_cli('runs', *(argument.format(work_dirs) for argument in arguments))
    assert result.code == 1 and result.err.count('\n') == 1 and all(word in result.err for word in words), result.err
