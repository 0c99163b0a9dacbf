"""The commands of docs/course.md: a shell runs each block with a `python` that only notes its arguments."""

import os
import re
import subprocess

import pytest
import torch

from mtl_plugins.config.load import load_config, parse_options
from mtl_plugins.registry import MODELS
from tests.tiny import ROOT
from tool_reference import find_parser

PAGE = (ROOT / 'docs/course.md').read_text()
BLOCKS = re.findall(r'^```\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope='module')
def commands(tmp_path_factory) -> list[list[str]]:
    """Tool and arguments of each command."""
    folder = tmp_path_factory.mktemp('course')
    noted, program = folder / 'noted', folder / 'python'
    program.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> {noted}\nprintf "\\n" >> {noted}\n')
    program.chmod(0o755)
    for block in BLOCKS:
        environment = dict(os.environ, PATH=f'{folder}:{os.environ["PATH"]}')
        ran = subprocess.run(['bash', '-eu', '-c', block], cwd=folder, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0 and not ran.stderr, block + ran.stderr
    return [line.split('\0')[:-1] for line in noted.read_text().splitlines()]


def test_every_command_names_a_tool_and_its_options(commands):
    assert len(commands) > len(re.findall(r'^ *python ', PAGE, re.MULTILINE)) > 40
    parsers = {name: find_parser(ROOT / name) for name in {command[0] for command in commands}}
    for name, *arguments in commands:
        parsers[name].parse_args(arguments)


def test_every_training_loads_its_config_with_its_overrides_and_builds_its_model(commands):
    parser = find_parser(ROOT / 'tools/train.py')
    trainings = [parser.parse_args(arguments) for name, *arguments in commands if name == 'tools/train.py']
    # Two trainings never go to one work dir.
    assert len({args.work_dir or args.config for args in trainings}) == len(trainings)
    # One of those that differ in values only.
    different = {(args.config, *sorted(parse_options(args.cfg_options))): args for args in trainings}.values()
    built = set()
    for args in different:
        options = parse_options(args.cfg_options)
        config = load_config(str(ROOT / args.config), options)
        for key, value in options.items():
            node = config
            for part in key.split('.'):
                node = node[int(part)] if part.isdigit() else node[part]
            assert node == value, key
        if (text := str(config.model)) not in built:
            built.add(text)
            with torch.device('meta'):
                MODELS.build(config.model)


@pytest.mark.parametrize(
    ('year', 'figures', 'tables'),
    # Left out: the drawing of an architecture in 2020.
    [(2020, {*range(1, 17)} - {10}, {*range(1, 6)}), (2025, {*range(1, 11)}, {1, 2, 3})],
)
def test_every_figure_and_table_of_the_reports_has_its_place(year, figures, tables):
    section = PAGE.split(f'\n## {year}')[1].split('\n## ')[0]
    headings = ' '.join(re.findall(r'^### (.*)', section, re.MULTILINE)).lower()
    named = dict(figure=set(), table=set())
    for kind, first, link, last in re.findall(r'(figure|table)s? (\d+)(?:(?: [a-h])?,? (and|to) (\d+))?', headings):
        named[kind] |= {*range(int(first), int(last) + 1)} if link == 'to' else {int(first), int(last or first)}
    assert named == dict(figure=figures, table=tables)
