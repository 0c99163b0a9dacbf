"""The command ``mtl``: a module for each sub-command.

A module has ``make_parser``, ``main`` and, for what a parser cannot know, ``check``. None imports torch before it knows its
arguments, so that help and wrong arguments are answered at once.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from mtl_plugins import __version__
from mtl_plugins.utils.cli import run_tool

COMMANDS = (
    *('train', 'test', 'predict', 'export', 'serve', 'demo', 'zoo'),
    *('data inspect', 'data make', 'data make-coco', 'data convert', 'data pack', 'data statistics', 'data stage'),
    *('data prepare-coco', 'data unpack-parquet'),
    *('runs', 'report', 'dashboard', 'plot', 'sweep'),
    *('analyse', 'compare', 'bins', 'classes', 'affinity', 'features', 'neighbors'),
    *('grade', 'hand-in', 'config', 'completion'),
)


def find_module(name: str) -> ModuleType:
    """Return the module of a command."""
    return importlib.import_module(f'mtl_plugins.cli.{name.replace(" ", "_").replace("-", "_")}')


def find_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command."""
    parser = find_module(name).make_parser()
    parser.prog = f'mtl {name}'
    return parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, for help and completion."""
    parser = argparse.ArgumentParser(
        prog='mtl', description='Multi-task dense prediction.', epilog='mtl COMMAND --help tells about a command.'
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    group = commands.add_parser('data', help='Generate, convert, pack and measure data sets.')
    data = group.add_subparsers(metavar='COMMAND', required=True)
    for name in COMMANDS:
        own, summary = find_parser(name), find_module(name).__doc__.partition('\n\n')[0].replace('\n', ' ')
        parent = data if name.startswith('data ') else commands
        parent.add_parser(
            name.removeprefix('data '), parents=[own], add_help=False, help=summary.replace('%', '%%'), description=summary
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command with its arguments, those of the process by default, and leave the process."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = next((name for name in (' '.join(arguments[:2]), *arguments[:1]) if name in COMMANDS), None)
    if name is not None:
        run_tool(lambda: run(name, arguments[len(name.split()) :]))
    parser, words = make_parser(), ' '.join(arguments[: 2 if arguments[:1] == ['data'] else 1])
    close = difflib.get_close_matches(words, COMMANDS, n=1)
    if close and words != 'data':
        parser.error(f'there is no command `{words}`. Did you mean `{close[0]}`?')
    parser.parse_args(arguments)


def run(name: str, arguments: Sequence[str]) -> int | None:
    """Run a command and return its exit status, None for 0."""
    module, parser = find_module(name), find_parser(name)
    args = parser.parse_args(arguments)
    if hasattr(module, 'check'):
        module.check(parser, args)
    return module.main(args)
