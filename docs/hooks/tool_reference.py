"""The page about the command line: what each command prints for ``--help``, and the headers of the shell scripts."""

import argparse
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from mtl_plugins import cli

ROOT = Path(__file__).resolve().parents[2]
# Of the text column of the site.
WIDTH = 86


class Caught(BaseException):
    """Carries a parser out of its tool."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def tool_files() -> list[Path]:
    """The files of ``tools/`` that are run from a shell, and are more than a command under another name."""
    texts = {path: path.read_text(encoding='utf-8') for path in (ROOT / 'tools').rglob('*.py')}
    programs = [path for path, text in texts.items() if "if __name__ == '__main__'" in text and 'mtl_plugins.cli' not in text]
    return sorted([*programs, *(ROOT / 'tools').rglob('*.sh')], key=lambda path: (len(path.parts), path))


def find_parser(path: Path) -> argparse.ArgumentParser:
    """The parser of a tool, as it is when the tool asks for its arguments.

    Raises:
        ValueError: If the tool ends without having asked.
    """

    def catch(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        raise Caught(parser)

    name = path.relative_to(ROOT).as_posix()
    with (
        # Set, it is respected: the memory of this process stays as it is.
        mock.patch.dict(os.environ, MALLOC_TRIM_THRESHOLD_='131072'),
        mock.patch.object(sys, 'path', [str(path.parent), *sys.path]),
        mock.patch.object(sys, 'argv', [name, '--help']),
        mock.patch.multiple(argparse.ArgumentParser, parse_args=catch, parse_known_args=catch),
    ):
        try:
            runpy.run_path(str(path), run_name='__main__')
        except Caught as caught:
            return caught.parser
    raise ValueError(f'{name} should parse its arguments first. Found nothing parsed.')


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its sub-commands."""
    yield parser
    # argparse offers no other way to them.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from parsers(command)


def tool_page() -> str:
    """Markdown of the page."""
    parts = [
        '# Command line\n\nWhat each command prints for `--help`. In a clone the scripts in `tools/` are these commands under '
        'their older names: `python tools/train.py` is `mtl train`. Errors that you can mend are one line on standard error and '
        'exit status 1; `MTL_DEBUG=1` shows the stack trace behind it.\n'
    ]
    with mock.patch.dict(os.environ, COLUMNS=str(WIDTH)):
        for name in cli.COMMANDS:
            parts.append(f'### mtl {name} {{ #mtl-{name.replace(" ", "-")} }}\n')
            parts.append(_block([item.format_help() for item in parsers(cli.find_parser(name))]))
    folder = None
    for path in tool_files():
        if path.parent != folder:
            folder = path.parent
            parts.append(f'## {folder.relative_to(ROOT).as_posix()}\n')
        name = path.relative_to(ROOT).as_posix()
        parts.append(f'### {path.name} {{ #{name.replace("/", "-")} }}\n')
        if path.suffix == '.sh':
            parts.append(_block([_shell_header(path)]))
        else:
            with mock.patch.dict(os.environ, COLUMNS=str(WIDTH)):
                parts.append(_block([item.format_help() for item in parsers(find_parser(path))]))
    return '\n'.join(parts)


def _shell_header(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding='utf-8').splitlines()[1:]:
        if not line.startswith('#'):
            break
        lines.append(line.lstrip('# '))
    return '\n'.join(lines)


def _block(texts: list[str]) -> str:
    return '\n'.join(f'```text\n{text.strip()}\n```\n' for text in texts)
