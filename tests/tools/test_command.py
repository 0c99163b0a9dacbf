"""The command `mtl`: what it answers before anything slow is imported, its words, and its wheel in another environment."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from mtl_plugins import __version__, cli
from mtl_plugins.config.load import find_config_file, load_config
from mtl_plugins.config.options import set_settings
from mtl_plugins.errors import ConfigError
from tests.tiny import EPOCH_CONFIG, ROOT

NAME = 'joint_r18-d16_1xb16-32e_miniscapes-256x256'
QUICK = 'quickstart/joint_r18-d16_1xb4-3e_synthetic-128x256'
# Exit status and words of what is wrong.
WRONG = [
    ('trian', 2, 'Did you mean `train`?'),
    ('data converts', 2, 'Did you mean `data convert`?'),
    ('train', 2, 'required: config'),
    ('train --epoch 0 x', 2, 'at least 1'),
    ('train x --size 64', 2, "Found '64'"),
    ('train x --device gpu', 2, "Found 'gpu'"),
    (f'train {NAME}6', 1, f'Did you mean `{NAME}`?'),
    (f'train {NAME}', 1, "The data root 'data/miniscapes' does not exist"),
    (f'train {NAME} --data-root nowhere', 1, "The data root 'nowhere' does not exist"),
    (f'train {NAME} --data-root .', 1, 'The label `semseg` cannot be built'),
    (f'train {NAME} --cfg-options randomness.sed=3', 1, 'Did you mean `seed`?'),
    ('train --data . --cfg-options train_dataloader.batch_size=4', 2, 'give --batch-size'),
    ('--version', 0, __version__),
    ('data', 2, 'required: COMMAND'),
    ('config list joint se_', 0, f'joint/{NAME.replace("_mini", "_se_mini")}.py'),
]


def test_what_is_known_from_the_command_line_imports_no_torch(tmp_path):
    (tmp_path / 'dataset.json').write_text('{"labels": {"semseg": {"type": "ClassMap", "classes": 3}}}')
    code = f"""
import sys
from importlib.metadata import distributions
from mtl_plugins import cli
installed = {{each.name for each in distributions()}}
for line, _, _ in {WRONG}:
    print('##')
    try:
        cli.main(line.split())
    except SystemExit as end:
        print('exit', end.code or 0, flush=True)
    # OpenMMLab's mmengine imports it with its configs.
    assert 'torch' not in sys.modules or 'onedl-mmengine' not in installed, line
"""
    run = subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout
    for (line, status, words), printed in zip(WRONG, run.stdout.split('##')[1:], strict=True):
        assert printed.rstrip().endswith(f'exit {status}') and words in printed, f'{line}: {printed}'


@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_whoever_reads_may_leave(unbuffered):
    command = f'set -o pipefail; {sys.executable} -m mtl_plugins config list | head -1'
    ran = subprocess.run(
        ['bash', '-c', command], capture_output=True, text=True, env={**os.environ, 'PYTHONUNBUFFERED': unbuffered}
    )
    assert (ran.returncode, ran.stderr) == (0, '') and ran.stdout.count('\n') == 1


@pytest.mark.parametrize('name', [NAME, f'joint/{NAME}', f'configs/joint/{NAME}.py', f'mtl_plugins::joint/{NAME}.py'])
def test_a_name_is_a_config_of_the_package_from_any_folder_and_a_path_wins(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(find_config_file(name)) == EPOCH_CONFIG
    own = tmp_path / f'configs/joint/{NAME}.py'
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_config_file(f'configs/joint/{NAME}.py') == f'configs/joint/{NAME}.py'


def test_a_config_of_the_package_is_a_base(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = ['mtl_plugins::joint/{NAME}.py']\ntrain_cfg = dict(max_epochs=3)\n")
    expected = load_config(NAME, {'train_cfg.max_epochs': 3})
    assert load_config(str(own)).to_dict() == expected.to_dict()


def _scheduled(name: str, epochs: int) -> list[tuple]:
    config = load_config(name)
    set_settings(config, epochs=epochs)
    assert config.train_cfg.max_epochs == epochs
    return [(each.type, each.begin, each.end) for each in config.param_scheduler]


def test_epochs_bring_their_schedule():
    quick = f'{QUICK.replace("r18", "tf-efficientnet-lite0").replace("synth", "separable-pretrained_synth")}'
    assert _scheduled(quick, 9) == [('LinearLR', 0, 30), ('PolyLR', 0, 9)]
    (dino,) = (path.stem for path in (ROOT / 'configs/dino').glob('*100e*') if 'course' not in path.stem)
    assert _scheduled(dino, 20) == [('LinearLR', 0, 10), ('CosineAnnealingLR', 10, 20)]
    with pytest.raises(ConfigError, match='should be more than 10, where CosineAnnealingLR begins'):
        _scheduled(dino, 10)
    with pytest.raises(ConfigError, match='counts iterations'):
        _scheduled('mmseg::unet/unet-s5-d16_fcn_4xb4-40k_hrf-256x256.py', 2)
    config = load_config(NAME)
    settings = dict(type='MultiStepLR', milestones=[16, 24]), dict(type='CosineAnnealingLR', T_max=32)
    config.param_scheduler = [ConfigDict(each) for each in settings]
    set_settings(config, epochs=8)
    assert config.param_scheduler[0].milestones == [4, 6] and config.param_scheduler[1].T_max == 8


def test_settings_are_those_of_the_config(capsys):
    options = ['--batch-size', '3', '--lr', '0.5', '--size', '32x64', '--seed', '7', '--epochs', '2']
    cli.run('config', ['print', NAME, *options])
    printed = {}
    exec(capsys.readouterr().out, printed)
    assert printed['train_dataloader']['batch_size'] == 3 and printed['val_dataloader']['batch_size'] == 8
    assert printed['train_dataloader']['dataset']['pipeline'][1]['crop_size'] == (32, 64)
    assert printed['optim_wrapper']['optimizer']['lr'] == 0.5 and printed['randomness']['seed'] == 7
    assert printed['train_cfg']['max_epochs'] == printed['param_scheduler'][0]['end'] == 2
    with pytest.raises(ConfigError, match='`--size` sets `crop_size`'):
        cli.run('config', ['print', 'dino_r18-d32_1xb64-20e_synthetic-coco-48x48', '--size', '32x32'])


@pytest.mark.parametrize(('shell', 'program'), [('bash', 'bash'), ('zsh', 'zsh')])
def test_a_shell_reads_its_completion(shell, program, capsys):
    pytest.importorskip('shtab')
    cli.run('completion', [shell])
    script = capsys.readouterr().out
    assert '--epochs' in script and 'prepare-coco' in script
    if shutil.which(program):
        assert subprocess.run([program, '-n'], input=script, text=True).returncode == 0


@pytest.mark.parametrize('stack', ['onedl', pytest.param('openmmlab', marks=pytest.mark.slow)])
def test_a_wheel_trains_in_another_environment_from_another_folder(data_root, tmp_path, stack):
    uv, source, environment = shutil.which('uv', path=Path(sys.executable).parent), tmp_path / 'source', tmp_path / 'environment'
    if uv is None:
        pytest.skip('needs uv')
    for name in ('mtl_plugins', 'configs'):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    python, wheel = environment / 'bin/python', tmp_path / f'mtl_plugins-{__version__}-py3-none-any.whl'
    for command in (
        ['build', '--wheel', '--no-build-isolation', '--python', sys.executable, '-o', tmp_path, source],
        ['venv', '--python', sys.executable, environment],
    ):
        subprocess.run([uv, '--offline', '-q', *command], check=True)
    if stack == 'onedl':
        subprocess.run([uv, '--offline', '-q', 'pip', 'install', '--no-deps', '--python', python, wheel], check=True)
        (packages,) = environment.glob('lib/*/site-packages')
        # What the package needs is that of the tests.
        (packages / 'others.pth').write_text(sysconfig.get_path('purelib'))
    else:
        lines = (ROOT / 'requirements/lock.in').read_text().splitlines(keepends=True)
        (tmp_path / 'pins.txt').write_text(''.join(line for line in lines if line.startswith(('torch==', 'torchvision=='))))
        subprocess.run(
            [uv, '-q', 'pip', 'install', '--python', python, '-c', 'pins.txt', f'{wheel}[openmmlab,timm]'],
            check=True,
            cwd=tmp_path,
        )
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = ['mtl_plugins::{QUICK}.py']\n")
    options = ['--epochs', '1', '--size', '32x64', '--out', 'run', '--data-root', data_root]
    run = subprocess.run([environment / 'bin/mtl', 'train', own, *options], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0 and 'Packed the predictions of 3 images into run' in run.stdout, run.stderr
    (archive,) = (tmp_path / 'run').glob('*.zip')
    with zipfile.ZipFile(archive) as content, zipfile.ZipFile(content.open('source.zip')) as code:
        # Of the packages next to an installed one, this one alone.
        assert {name.partition('/')[0] for name in code.namelist()} == {'mtl_plugins', 'cmd.txt'}
