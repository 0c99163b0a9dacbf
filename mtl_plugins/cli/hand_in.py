"""Pack the final hand-in of a course: report, score sheet, run table and code, under the names that the course asks for."""

import argparse
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='The archive holds NAME.report.pdf, NAME.scores.csv, NAME.wandb.csv and NAME.code.zip (package, tools, configs, '
        '--code). Nothing is packed if a part is missing, or if a file holds a key or password.',
    )
    parser.add_argument('folders', nargs='*', type=Path, metavar='FOLDER', help='work dirs, or folders that hold some')
    parser.add_argument('--name', required=True, help='start of all names, such as cvaiac25.team07.ex1')
    parser.add_argument('--report', type=Path, metavar='PDF', help='the report')
    parser.add_argument(
        '--scores', type=Path, metavar='CSV', help='your score sheet; that of the runs which the grader scored without'
    )
    parser.add_argument('--wandb', type=Path, metavar='CSV', help='the table exported from W&B; that of all runs without')
    parser.add_argument(
        '--code', nargs='+', default=[], type=Path, metavar='PATH', help='further files and folders of code, such as a plug-in'
    )
    parser.add_argument('--out', type=Path, metavar='ZIP', help='NAME.submission.zip without')
    return parser


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.errors import SubmissionError
    from mtl_plugins.lab.hand_in import PARTS, pack_hand_in
    from mtl_plugins.lab.runs.tables import make_table, score_sheet
    from mtl_plugins.lab.runs.work_dirs import find_runs
    from mtl_plugins.lab.tables import to_csv
    from mtl_plugins.submission.archive import read_source

    runs = find_runs(args.folders)
    graded = [run for run in runs if run.data.get('graded')]
    sources = (
        (args.report, '', 'give it by --report'),
        (args.scores, score_sheet(graded) if graded else '', 'note scores by `runs.py note --graded`, or give it by --scores'),
        (args.wandb, to_csv(make_table(runs)) if runs else '', 'give folders with runs, or the table of W&B by --wandb'),
    )
    parts, missing = {}, [f'{path} (it does not exist)' for path in args.code if not path.exists()]
    for name, (path, text, advice) in zip(PARTS, sources, strict=False):
        if path is None and not text:
            missing.append(f'{name} ({advice})')
        elif path is not None and not path.is_file():
            missing.append(f'{name} ({path} does not exist)')
        else:
            parts[name] = text.encode() if path is None else path.read_bytes()
    if missing:
        raise SubmissionError(f'The hand-in lacks {", ".join(missing)}. Nothing was packed.')
    archive = pack_hand_in(args.out or Path(f'{args.name}.submission.zip'), args.name, parts, read_source(args.code))
    print(f'Packed {", ".join(PARTS)} into {archive}. {len(runs)} runs, {len(graded)} with scores of the grader.')
