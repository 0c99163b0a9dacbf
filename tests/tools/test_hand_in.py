"""The final hand-in, packed by its tool from runs on disk."""

import csv
import io
import json
import zipfile

import pytest

KEY = '0123456789abcdef' * 2 + 'deadbeef'
NAME = 'cvaiac25.team07.ex1'


@pytest.fixture
def hand_in(tmp_path, monkeypatch, run_cli):
    """``hand_in(arg, ...)`` packs ``tmp_path/out.zip`` from a report, a run that the grader scored and another one."""
    monkeypatch.delenv('WANDB_API_KEY', raising=False)
    monkeypatch.setattr('mtl_plugins.records.config_data.KEY_FILE', tmp_path / 'wandb.key')
    (tmp_path / 'wandb.key').write_text(KEY)
    (tmp_path / 'report.pdf').write_bytes(b'%PDF-1.7 ...')
    for name, graded in (('best', {'metrics_summary/multitask': 28.5}), ('other', None)):
        (tmp_path / 'runs' / name).mkdir(parents=True)
        record = dict(run_name=f'G07_{name}', note=f'Row of {name}', graded=graded, scores={'metrics_summary/multitask': 30.0})
        (tmp_path / 'runs' / name / 'run.json').write_text(json.dumps(record))
    plugin = tmp_path / 'my_plugin'
    (plugin / '.cache').mkdir(parents=True)
    for file in ('head.py', '.cache/head.py', '.netrc', 'notes.key', 'weights.pth'):
        (plugin / file).write_text('x = 1')

    def run(*arguments):
        folder = [] if '--no-runs' in arguments else [tmp_path / 'runs']
        options = [argument for argument in arguments if argument != '--no-runs']
        return run_cli('submission_tools/pack_hand_in', *folder, '--out', tmp_path / 'out.zip', '--name', NAME, *options)

    return run


def test_the_parts_have_the_names_of_the_course_and_no_key_comes_along(hand_in, tmp_path):
    result = hand_in('--report', tmp_path / 'report.pdf', '--code', tmp_path / 'my_plugin')
    assert result.code == 0 and '2 runs, 1 with scores of the grader' in result.out, result.err
    with zipfile.ZipFile(tmp_path / 'out.zip') as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert set(parts) == {f'{NAME}.{part}' for part in ('report.pdf', 'scores.csv', 'wandb.csv', 'code.zip')}
    (scored,) = csv.DictReader(io.StringIO(parts[f'{NAME}.scores.csv'].decode()))
    assert (scored['run name'], scored['grader multitask']) == ('G07_best', '28.5')
    rows = list(csv.DictReader(io.StringIO(parts[f'{NAME}.wandb.csv'].decode())))
    assert {(row['run_name'], row['note']) for row in rows} == {('G07_best', 'Row of best'), ('G07_other', 'Row of other')}
    with zipfile.ZipFile(io.BytesIO(parts[f'{NAME}.code.zip'])) as code:
        names = set(code.namelist())
        assert not any(KEY.encode() in code.read(name) for name in names)
    assert {'tools/train.py', 'mtl_plugins/lab/report/templates/report.html', 'configs/_base_/default_runtime.py'} <= names
    assert {name for name in names if name.startswith('my_plugin')} == {'my_plugin/head.py'}


def test_sheets_of_ones_own_take_the_place_of_those_of_the_runs(hand_in, tmp_path):
    for name in ('scores', 'wandb'):
        (tmp_path / f'{name}.csv').write_text(f'{name} of my own')
    sheets = [part for name in ('scores', 'wandb') for part in (f'--{name}', tmp_path / f'{name}.csv')]
    assert hand_in('--no-runs', '--report', tmp_path / 'report.pdf', *sheets).code == 0
    with zipfile.ZipFile(tmp_path / 'out.zip') as archive:
        assert archive.read(f'{NAME}.wandb.csv') == b'wandb of my own'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--no-runs'], ['lacks report.pdf (give it by --report), scores.csv (', 'wandb.csv (give folders']),
        (['--report', 'nowhere.pdf'], ['report.pdf (nowhere.pdf does not exist)']),
        (['--report', 'my_plugin/head.py'], ['should be a PDF file']),
        (['--report', 'report.pdf', '--code', 'nowhere'], ['nowhere (it does not exist)']),
        (['--report', 'report.pdf', '--code', 'wandb.key'], ['wandb.key holds a key']),
        (
            ['--report', 'report.pdf', '--code', 'my_plugin/weights.pth', 'secret'],
            ['secret/call.py holds a key, token or password'],
        ),
        (['--report', 'report.pdf', '--code', 'secret/known.py'], ['known.py holds a key']),
        (['--report', 'report.pdf', '--name', '../x'], ['`name` should consist of']),
    ],
)
def test_what_is_missing_or_secret_is_said_in_a_sentence(hand_in, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'secret').mkdir()
    (tmp_path / 'secret' / 'call.py').write_text("hyperparameters = {'ngrok_auth.token': '2NcMx7gxTZ4pNf5qQ1hzRk'}")
    (tmp_path / 'secret' / 'known.py').write_text(f'wandb.login("{KEY}")')
    hand_in(*arguments).check_refused(*words)
    assert not (tmp_path / 'out.zip').exists()
