"""List, show, annotate and export the runs in work dirs."""

import argparse
import sys
from pathlib import Path

_RECENT = 40


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='mtl runs',
        description=__doc__,
        epilog='Keys are those of the record (state, seed, epoch_seconds, scores.metrics_summary/semseg, or mIoU for short) or '
        'of the config (optim_wrapper.optimizer.lr). Conditions: '
        'KEY OP VALUE with <, <=, >, >=, =, !=, ~ (contains), joined by and.',
    )
    commands = parser.add_subparsers(dest='command', required=True)
    several = argparse.ArgumentParser(add_help=False)
    several.add_argument(
        'folders', nargs='+', type=Path, metavar='FOLDER', help='work dirs, or folders that hold some at any depth'
    )
    several.add_argument(
        '--where', action='append', default=[], metavar='CONDITION', help='e.g. "seed = 0 and multitask > 10"; repeatable'
    )
    several.add_argument('--sort', metavar='KEY', help='by start without; best scores first, other values ascending')
    tabular = argparse.ArgumentParser(add_help=False)
    tabular.add_argument('--columns', nargs='+', metavar='KEY', help='instead of scores and the config keys that differ')

    one = commands.add_parser('list', parents=[several, tabular], help='a table of runs')
    one.add_argument('--watch', action='store_true', help='a live view of those that run; Ctrl-C ends it')
    one.add_argument('--every', type=float, default=2.0, metavar='SECONDS', help='how often --watch looks (default: %(default)s)')
    one.add_argument('--all', action='store_true', help=f'all runs, not only the last {_RECENT}, and all columns; so in pipes')
    one = commands.add_parser('show', help='the record of a run')
    one.add_argument('run', type=Path, metavar='RUN', help='work dir')
    one.add_argument('--config', action='store_true', help='with the resolved config')
    one = commands.add_parser('note', help='add a text, tags, the task, or scores of the grader to a run')
    one.add_argument('run', type=Path, metavar='RUN', help='work dir')
    one.add_argument('text', nargs='?', help='replaces the note of the run')
    one.add_argument('--tag', action='append', default=[], metavar='WORD', help='add a tag; repeatable')
    one.add_argument('--task', help='for the score sheet; the trained tasks without')
    one.add_argument('--graded', type=Path, metavar='JSON', help='scores that grade_submission.py --json wrote')
    one = commands.add_parser('export', parents=[several, tabular], help='the table as CSV, Markdown or LaTeX')
    one.add_argument('--format', choices=['csv', 'md', 'tex'], help='by the name of --out, else csv')
    one.add_argument('--out', type=Path, metavar='FILE', help='standard output without')
    one = commands.add_parser('score-sheet', parents=[several], help='CSV of task, run name, notes, validation and grader scores')
    one.add_argument('--out', type=Path, metavar='FILE', help='standard output without')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.command == 'list' and not args.every > 0:
        parser.error(f'--every should be positive. Found {args.every:g}')
    if args.command == 'note' and args.text is None and not (args.tag or args.task or args.graded):
        parser.error('note should be given a text, --tag, --task or --graded')


def selected(args: argparse.Namespace) -> list:
    from mtl_plugins.lab.runs.query import select
    from mtl_plugins.lab.runs.work_dirs import find_runs

    return select(find_runs(args.folders), args.where, args.sort)


def list_runs(args: argparse.Namespace) -> None:
    from mtl_plugins.errors import ConfigError
    from mtl_plugins.lab.runs.tables import make_table, print_runs
    from mtl_plugins.lab.tables import to_plain

    if args.watch:
        if not sys.stdout.isatty():
            raise ConfigError('`--watch` needs a terminal. Leave it out where the output goes into a file or a pipe.')
        return watch(args)
    runs = selected(args)
    if not runs:
        print('No runs.')
    elif sys.stdout.isatty():
        print_runs(runs, args.columns, None if args.all or args.sort else _RECENT, args.all)
    else:
        print(to_plain(make_table(runs, args.columns)), end='')


def watch(args: argparse.Namespace) -> None:
    import time

    from rich.live import Live

    from mtl_plugins.lab.runs.tables import live_table

    try:
        with Live(live_table(selected(args)), auto_refresh=False) as live:
            while True:
                time.sleep(args.every)
                live.update(live_table(selected(args)), refresh=True)
    except KeyboardInterrupt:
        return


def show(args: argparse.Namespace) -> None:
    import json

    from mtl_plugins.lab.runs.work_dirs import read_run
    from mtl_plugins.records.record import RECORD_NAME, read_record_file
    from mtl_plugins.utils.data_files import printable

    # A broken record is shown as such, a missing one is refused.
    if not (args.run / RECORD_NAME).exists():
        read_record_file(args.run)
    run = read_run(args.run)
    shown = {**run.data, 'state': run.state, **({'config': run.config} if args.config else {})}
    print(printable(json.dumps(shown, indent=1, ensure_ascii=False), kept='\n'))


def note(args: argparse.Namespace) -> None:
    from mtl_plugins.errors import CorruptFileError
    from mtl_plugins.lab.runs.wandb_note import push_note
    from mtl_plugins.records.record import read_record_file
    from mtl_plugins.records.recording import change_record
    from mtl_plugins.utils.data_files import ANY, is_number, read_json

    graded = None
    if args.graded:
        graded = read_json(args.graded, 'list of scores of grade_submission.py --json', {ANY: is_number})
        if 'metrics_summary/multitask' not in graded:
            raise CorruptFileError(f"'{args.graded}' should hold the scores that grade_submission.py --json writes.")

    def change(record: dict) -> None:
        if args.text is not None:
            record['note'] = args.text
        if args.task:
            record['task'] = args.task
        if graded:
            record['graded'] = graded
        record['tags'] = list(dict.fromkeys([*(record.get('tags') or []), *args.tag]))

    change_record(args.run, change)
    record = read_record_file(args.run)
    if record.get('wandb') and (args.text is not None or args.tag):
        print(push_note(record['wandb'], args.text, record['tags']))


def write(text: str, path: Path | None) -> None:
    from mtl_plugins.utils.files import save_text

    print(text if path is None else f'{save_text(path, text)}\n', end='')


def export_runs(args: argparse.Namespace) -> None:
    from mtl_plugins.errors import ConfigError
    from mtl_plugins.lab.runs.tables import make_table
    from mtl_plugins.lab.tables import WRITERS

    form = args.format or (args.out.suffix.removeprefix('.') if args.out else 'csv')
    if form not in WRITERS:
        raise ConfigError(f"`--out` should end in .{', .'.join(WRITERS)}, or `--format` say the format. Found '{args.out}'.")
    write(WRITERS[form](make_table(selected(args), args.columns)), args.out)


def write_score_sheet(args: argparse.Namespace) -> None:
    from mtl_plugins.lab.runs.tables import score_sheet

    write(score_sheet(selected(args)), args.out)


def main(args: argparse.Namespace) -> None:
    commands = dict(list=list_runs, show=show, note=note, export=export_runs)
    commands.get(args.command, write_score_sheet)(args)
