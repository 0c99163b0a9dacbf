"""Commands, examples, numbers and names in the pages are true."""

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

from mtl_plugins import cli
from mtl_plugins.cli.arguments import TRAINING
from mtl_plugins.config.load import load_config, parse_options
from mtl_plugins.config.options import set_settings
from mtl_plugins.registry import MODELS
from tests.tiny import ROOT
from tool_reference import find_parser

PAGE = (ROOT / 'docs/course.md').read_text()


def noted_commands(page: str, folder: Path) -> list[list[str]]:
    noted = folder / 'noted'
    for program in (folder / 'mtl', folder / 'python'):
        program.write_text(f'#!/bin/sh\nprintf "%s\\0" {program.name} "$@" >> {noted}\nprintf "\\n" >> {noted}\n')
        program.chmod(0o755)
    for block in re.findall(r'^```bash\n(.*?)^```$', page, re.DOTALL | re.MULTILINE):
        environment = dict(os.environ, PATH=f'{folder}:{os.environ["PATH"]}')
        ran = subprocess.run(['bash', '-eu', '-c', block], cwd=folder, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0 and not ran.stderr, block + ran.stderr
    return [line.split('\0')[:-1] for line in noted.read_text().splitlines()]


@pytest.fixture(scope='module')
def commands(tmp_path_factory) -> list[list[str]]:
    return noted_commands(PAGE, tmp_path_factory.mktemp('course'))


def test_every_command_names_a_tool_and_its_options(commands):
    assert len(commands) > len(re.findall(r'^ *(?:mtl|python) ', PAGE, re.MULTILINE)) > 40
    for program, *words in commands:
        if program == 'python':
            find_parser(ROOT / words[0]).parse_args(words[1:])
        else:
            name = next(name for name in (' '.join(words[:2]), words[0]) if name in cli.COMMANDS)
            cli.find_parser(name).parse_args(words[len(name.split()) :])


def test_every_training_loads_its_config_with_its_overrides_and_builds_its_model(commands):
    parser = cli.find_parser('train')
    trainings = [parser.parse_args(words) for program, name, *words in commands if (program, name) == ('mtl', 'train')]
    assert len(trainings) > 80
    # Two trainings never go to one work dir.
    assert len({args.work_dir or args.config for args in trainings}) == len(trainings)
    different = {(args.config, *sorted(parse_options(args.cfg_options))): args for args in trainings}.values()
    built = set()
    for args in different:
        options = parse_options(args.cfg_options)
        config = load_config(args.config, options)
        set_settings(config, **{name: getattr(args, name) for name in TRAINING})
        assert args.epochs in (None, config.train_cfg.max_epochs)
        for key, value in options.items():
            node = config
            for part in key.split('.'):
                node = node[int(part)] if part.isdigit() else node[part]
            assert node == value, key
        if (text := str(config.model)) not in built:
            built.add(text)
            with torch.device('meta'):
                MODELS.build(config.model)


# Left out: drawings of architectures and sketches from books.
LETTERS_2025 = '1cdef 2abcf 3bcdef 4bcde 5a 6bcdef 7ab 8cdefg 9abcdefgh 10bcd'


@pytest.mark.parametrize(
    ('year', 'figures', 'tables'),
    [
        (2020, {str(number) for number in range(1, 17) if number != 10}, {*'12345'}),
        (2025, {number + letter for number, letters in re.findall(r'(\d+)(\w+)', LETTERS_2025) for letter in letters}, {*'123'}),
    ],
)
def test_a_command_writes_every_figure_of_the_reports_to_its_letter_and_every_table(tmp_path, year, figures, tables):
    section = PAGE.split(f'\n## {year}')[1].split('\n## ')[0]
    written = dict(figure=set(), table=set())
    for argument in itertools.chain(*noted_commands(section, tmp_path)):
        if output := re.match(r'(figure|table)s?(\d.*)', argument):
            for first, last, letters in re.findall(r'(?<![^_])(\d+)(?:-(\d+))?([a-h]*)(?![^_.])', output[2]):
                numbers = range(int(first), int(last or first) + 1)
                written[output[1]] |= {f'{number}{letter}' for number in numbers for letter in letters or ['']}
    assert written == dict(figure=figures, table=tables)


def test_what_the_page_of_demands_names_exists():
    """Classes, files and configs in the column that says where a demand is met."""
    rows = re.findall(r'^\|(.+)\|$', (ROOT / 'docs/course_demands.md').read_text(), re.MULTILINE)
    cells = [row.split('|')[1] for row in rows]
    sources = ''.join(path.read_text() for path in (ROOT / 'mtl_plugins').rglob('*.py'))
    configs = ' '.join(path.name for path in (ROOT / 'configs').rglob('*.py'))
    named = [name for cell in cells for name in re.findall(r'`([^`]+)`', cell)]
    assert len(rows) > 100 and len(named) > 100
    for name in named:
        first = name.split()[0]
        if re.fullmatch(r'[A-Z][A-Za-z0-9]+', first):
            assert f'class {first}' in sources, name
        elif re.search(r'_r\d\d-|^course20|pretrained$', first):
            assert first in configs, name
        elif re.match(r'(configs|examples|sweeps|tests|tools)/', first):
            assert (ROOT / first).exists(), name


def test_files_that_pages_name_exist():
    pages = [*ROOT.glob('*.md'), *(page for folder in ('docs', 'configs', 'sweeps') for page in (ROOT / folder).rglob('*.md'))]
    name = r'\b(?:mtl_plugins|tests|tools|docs|sweeps|examples)/[\w./-]+\.(?:py|sh|json)\b'
    named = {(page, found) for page in pages for found in re.findall(name, page.read_text())}
    assert len(named) > 50
    assert not [f'{found} in {page}' for page, found in named if not (ROOT / found).exists()]


# Those of add_your_own.md are excerpts; tests/datasets/test_other_data_train.py trains those of datasets.md.
PAGES = ('data_format', 'metrics', 'python', 'questions')
EXAMPLES = [
    pytest.param(code, id=f'{page}-{number}')
    for page in PAGES
    for number, code in enumerate(re.findall(r'^```python\n(.*?)^```$', (ROOT / f'docs/{page}.md').read_text(), re.M | re.S))
]


@pytest.mark.parametrize('code', EXAMPLES)
def test_an_example_runs_and_what_it_asserts_holds(code, data_root, tmp_path, monkeypatch):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'data').symlink_to(data_root)
    monkeypatch.chdir(tmp_path)
    assert 'assert ' in code
    exec(compile(code, 'example', 'exec'), {})


def test_each_page_has_an_example():
    assert {example.id.rsplit('-', 1)[0] for example in EXAMPLES} == set(PAGES)


def test_parameters_are_those_of_a_config_of_the_row():
    rows = re.findall(r'^\| (\[`.*?) \| .* \| ([\d., M]*) ?\|$', (ROOT / 'README.md').read_text(), re.MULTILINE)
    folders = {path.parent.name for path in ROOT.glob('configs/[!_]*/README.md')}
    named = set()
    for links, stated in rows:
        inside = re.findall(r'\(configs/(\w+)/README.md\)', links)
        named |= set(inside)
        texts = [(ROOT / f'configs/{folder}/README.md').read_text() for folder in inside]
        counted = {int(count.replace(',', '')) for text in texts for count in re.findall(r' \| ([\d,]+) \|$', text, re.MULTILINE)}
        for number in re.findall(r'[\d.]+', stated):
            assert float(number) in {round(count / 1e6, 2) for count in counted}, links
    assert named == folders - {'quickstart'}
