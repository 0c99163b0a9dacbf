"""Write a report on runs: one page with tables, curves, confusion matrices, a gallery and errors, and the same as files."""

import argparse
from pathlib import Path

from mtl_plugins.cli.arguments import image_size, positive, refuse_unused


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='DIR/index.html needs no network and no other file. Runs whose folders differ in _seed<number> only are one row. '
        'Rows stand in the order of RUN, within a folder by their start. The best checkpoint of the first seed of each row '
        'predicts the validation split. Beside the page: report.json, tables as Markdown, LaTeX and CSV, figures as PNG and PDF.',
    )
    parser.add_argument(
        'runs', nargs='+', type=Path, metavar='RUN', help='work dir, or a folder that holds some at any depth, such as a sweep'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for the report')
    parser.add_argument('--title', default='Report', help='above the page (default: Report)')
    parser.add_argument(
        '--names', nargs='+', metavar='NAME', help='one for each row; the folders without _seed<number> by default'
    )
    parser.add_argument('--data-root', help='folder of the data (or set MTL_DATA_ROOT); that of the first run by default')
    parser.add_argument('--split', help='split with labels; that of the validation by default')
    parser.add_argument('--num-examples', type=positive, default=6, metavar='N', help='images of the gallery (default: 6)')
    parser.add_argument('--no-predictions', action='store_true', help='from the work dirs alone: no checkpoint, no data')
    parser.add_argument(
        '--size', type=image_size, default=(256, 256), metavar='HxW', help='image whose FLOPs count (default: 256x256)'
    )
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    refuse_unused(parser, args, not args.no_predictions, 'with --no-predictions', 'split', 'num_examples')


def main(args: argparse.Namespace) -> None:
    import os

    from mtl_plugins.config.load import DATA_ROOT_VARIABLE
    from mtl_plugins.lab.report.write import write_report
    from mtl_plugins.utils.files import shorten_paths

    predictions = dict(
        data_root=args.data_root or os.environ.get(DATA_ROOT_VARIABLE),
        split=args.split,
        examples=args.num_examples,
    )
    page, *others = write_report(
        args.runs, args.out, args.title, args.names, args.size, None if args.no_predictions else predictions
    )
    print(shorten_paths(f'{page.absolute()} ({page.stat().st_size / 2**20:.1f} MiB), and {len(others)} files next to it'))
