"""Overrides reach what they name, and say so when they cannot."""

import copy
import re

import pytest
from yapf.yapflib import yapf_api

from mtl_plugins.config.load import load_config, parse_options
from mtl_plugins.engine.runner import RunConfig
from tests.tiny import EPOCH_CONFIG


def test_the_text_of_a_run_is_mmengines_and_formatted_once(monkeypatch):
    config = load_config(str(EPOCH_CONFIG))
    run = copy.deepcopy(RunConfig.of(config))
    assert run.pretty_text == config.pretty_text and len(run.pretty_text.splitlines()) > 100
    with monkeypatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', lambda *arguments, **options: pytest.fail('formatted again'))
        assert run.pretty_text
    run.train_dataloader.batch_size = 77
    assert 'batch_size=77' in run.pretty_text


README = EPOCH_CONFIG.parents[1] / 'README.md'


def test_every_override_in_the_readme_is_accepted():
    table = README.read_text().split('| to change | key |')[1].split('What replaces')[0]
    lines = [line.split('|')[2] for line in table.splitlines() if line.startswith('| ')]
    tried = 0
    for line in lines:
        prefix = ''
        for code in re.findall(r'`([^`]+)`', line):
            options = [option for option in code.split() if '=' in option]
            if options and options[0].startswith('.'):
                # `.scale=...` continues the item named before it.
                options = [prefix + options[0]]
            elif options:
                prefix = options[0].split('=')[0].rsplit('.', 1)[0]
            if options:
                load_config(str(EPOCH_CONFIG), parse_options(options))
                tried += 1
    assert tried >= 20


def test_data_root_reaches_all_loaders_and_the_option_beats_the_variable(monkeypatch):
    monkeypatch.setenv('MTL_DATA_ROOT', 'from-variable')
    for given, expected in ((None, 'from-variable'), ('given', 'given')):
        config = load_config(str(EPOCH_CONFIG), data_root=given)
        loaders = (config.train_dataloader, config.val_dataloader, config.test_dataloader)
        assert {loader.dataset.data_root for loader in loaders} == {expected}
