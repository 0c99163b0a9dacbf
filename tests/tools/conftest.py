"""Running the command-line tools inside the test process: importing torch anew costs seconds each time."""

import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.tiny import CONFIGS, ROOT, tiny_config
from tests.tools.photographs import save_checkpoint


def call_tool(tool: str, *arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        path = ROOT / 'tools' / f'{tool}.py'
        patch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        patch.setattr(sys, 'path', [str(path.parent), *sys.path])
        # Set, it is respected: the memory of the tests stays as it is.
        patch.setenv('MALLOC_TRIM_THRESHOLD_', '131072')
        runpy.run_path(str(path), run_name='__main__')
    return caught.value.code


class Ended(NamedTuple):
    """Exit code, standard output and standard error of a tool."""

    code: int
    out: str
    err: str

    def check(self) -> 'Ended':
        assert self.code == 0, self.err
        return self

    def check_refused(self, *words: str) -> str:
        """Fail unless the tool ended with one sentence that has these words; return all that it printed."""
        errors = [line for line in self.err.splitlines() if line.startswith('error: ')]
        assert self.code == 1 and errors == self.err.splitlines()[-1:] and 'Traceback' not in self.err, self.err
        assert all(word in errors[0] for word in words), errors
        return self.out + self.err


@pytest.fixture
def run_cli(capsys):
    """``run_cli('train', arg, ...)`` gives how the tool ended."""

    def run(tool: str, *arguments: object) -> Ended:
        capsys.readouterr()
        return Ended(call_tool(tool, *arguments), *capsys.readouterr())

    return run


def write_tiny_config(path: Path) -> Path:
    """A config file like a user's: two epochs of a tiny model, inheriting the real joint config."""
    path.write_text(
        f"""_base_ = ['{ROOT}/configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
custom_imports = dict(imports=['tests.tiny'])
model = dict(backbone=dict(_delete_=True, type='TinyBackbone'), decode_head=dict(head=dict(channels=16, skip_channels=8)))
task_balancing = dict(type='UncertaintyWeights')  # has weights, which predictions do not need
pipeline = [
    dict(type='LoadMiniScapes'), dict(type='RandomHomography', crop_size=32), dict(type='PackMultiTaskInputs', meta_keys=())
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=pipeline))
val_dataloader = dict(batch_size=2)
test_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=2)
"""
    )
    return path


def save_tiny(folder: Path, name: str, data_root: Path) -> tuple[Path, Path]:
    """Write the config of that name, tiny, and a checkpoint of random weights."""
    (path,) = CONFIGS.glob(f'*/{name}.py')
    config = folder / path.name
    tiny_config(data_root, folder / 'run', path).dump(config)
    return config, save_checkpoint(config.with_suffix('.pth'), config, whole=True)


@pytest.fixture
def tiny_config_file(tmp_path) -> Path:
    return write_tiny_config(tmp_path / 'tiny.py')


@pytest.fixture(scope='session')
def finished_run(data_root, tmp_path_factory) -> Path:
    """The work dir of one `tools/train.py` with :func:`write_tiny_config`, to look at and to copy."""
    folder = tmp_path_factory.mktemp('finished')
    config = write_tiny_config(folder / 'tiny.py')
    assert call_tool('train', config, '--work-dir', folder / 'run', '--data-root', data_root) == 0
    return folder / 'run'


@pytest.fixture
def visit(browser):
    """``visit(address, width, scheme)`` gives a page; at the end nothing must have been complained about or asked elsewhere."""
    pages, complaints = [], []

    def elsewhere(request):
        complaints.append(request.url)

    def open_page(address, width=1280, scheme='light'):
        page = browser.new_context(viewport=dict(width=width, height=900), color_scheme=scheme).new_page()
        page.on('console', lambda message: complaints.append(message.text) if message.type in ('error', 'warning') else None)
        page.on('pageerror', lambda error: complaints.append(str(error)))
        page.on('request', lambda request: None if request.url.startswith((address, 'data:', 'blob:')) else elsewhere(request))
        page.goto(address)
        page.wait_for_selector('html[data-ready=yes]', timeout=60000)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert not complaints
