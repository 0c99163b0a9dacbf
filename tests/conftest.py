"""Fixtures for all tests."""

import gc
import os
import shutil
from pathlib import Path

# As in the tools, and before torch is imported: spinning threads make the tests several times slower on busy cores.
os.environ.setdefault('GOMP_SPINCOUNT', '2000')

import cv2
import pytest
import torch

from tests.fake_miniscapes import write_fake_miniscapes
from tests.tools.conftest import run_cli, tiny_config_file

__all__ = ['run_cli', 'tiny_config_file']

ROOT = Path(__file__).resolve().parents[1]
# A fork that is made while OpenCV's own threads hold its lock would wait for it for ever.
cv2.setNumThreads(0)


@pytest.fixture(autouse=True)
def fresh_mmengine_state(monkeypatch):
    """Each test starts without the scopes, log histories, loggers and visualizers that mmengine remembers of the ones before."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer as MMEngineVisualizer

    from mtl_plugins.visualization.visualizer import Visualizer

    monkeypatch.delenv('MTL_DATA_ROOT', raising=False)
    yield
    for manager in (DefaultScope, MessageHub, MMLogger, MMEngineVisualizer, Visualizer):
        manager._instance_dict.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Skip what fails for want of the compiled mmcv, which OpenMMLab's mmcv-lite lacks and parts of mmseg need."""
    report = yield
    if report.failed and "No module named 'mmcv._ext'" in str(report.longrepr):
        report.outcome = 'skipped'
        report.longrepr = (str(item.path), item.location[1], 'Skipped: needs the compiled mmcv')
    return report


def pytest_collection_finish():
    # mmengine collects garbage for each data set, which takes half a second where so much is imported.
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    if item.get_closest_marker('cuda') and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')


@pytest.fixture(scope='session', autouse=True)
def two_threads():
    torch.set_num_threads(2)


@pytest.fixture(scope='session')
def data_root(tmp_path_factory) -> Path:
    """A read-only data set of eight training, three validation and three test images of 32x64 pixels."""
    root = tmp_path_factory.mktemp('data') / 'miniscapes'
    write_fake_miniscapes(root, splits=dict(train=8, val=3, test=3), size=(32, 64))
    return root


@pytest.fixture(scope='session')
def browser():
    program = next((path for name in ('chromium', 'chromium-browser', 'google-chrome') if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip('needs Chromium: apt-get install chromium')
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()
