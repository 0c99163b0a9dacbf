"""Draw metrics of runs over iterations, epochs or time, and say when each run reaches a value."""

import argparse
import re
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Runs of one name, such as several seeds of a config, are one curve: their mean at the iterations they share, and '
        'a band from the lowest to the highest. A value counts as reached at the first one that is as good. Hours are those of '
        'run.json, validations included; without it, iterations times the median of their seconds in '
        '<timestamp>/vis_data/scalars.json.',
    )
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help='work dir with metrics.csv')
    parser.add_argument(
        '--metric',
        required=True,
        action='append',
        help='what tables call a score (mIoU), column of metrics.csv, or what the training logs (loss); may be repeated',
    )
    parser.add_argument('--x', choices=('iter', 'epoch', 'hours'), default='iter', help='what the axis shows (default: iter)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='picture, .png, .jpg or .pdf; none without')
    parser.add_argument(
        '--names', nargs='+', metavar='NAME', help='one for each run; the folders without _seed<number> by default'
    )
    parser.add_argument('--reach', type=float, metavar='VALUE', help='value to be reached')
    parser.add_argument('--lower-is-better', action='store_true', help='for errors; known for summaries and losses')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.names and len(args.names) != len(args.runs):
        parser.error(f'--names should name each of the {len(args.runs)} runs. Found {len(args.names)}')


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.evaluation.scores import SUMMARIES, find_score, rule_of
    from mtl_plugins.lab.plots.curves import read_curve, render_curves
    from mtl_plugins.lab.tables import Table, print_table
    from mtl_plugins.utils.data_files import printable
    from mtl_plugins.visualization.plots import write_picture

    names = args.names or [re.sub(r'[_-]seed[_-]?\d+$', '', run.resolve().name) for run in args.runs]
    metrics = args.metric
    curves = [
        read_curve(run, metric, name if len(metrics) == 1 else f'{name}: {metric}', args.x)
        for run, name in zip(args.runs, names, strict=True)
        for metric in metrics
    ]
    title = ', '.join(metrics)
    lower_is_better = args.lower_is_better or rule_of(find_score(metrics[0], SUMMARIES)) == 'less' or 'loss' in metrics[0]
    reach = [] if args.reach is None else [f'iteration of {args.reach:g}']
    rows = []
    for curve in curves:
        row = [str(len(curve.values)), f'{curve.values[-1]:.2f}', f'{curve.best(lower_is_better):.2f}']
        if reach:
            row.append(str(curve.reaches(args.reach, lower_is_better) or 'never'))
        rows.append([printable(curve.name), *row])
    print_table(Table(['run', 'values', 'last', 'best', *reach], rows), title)
    if args.out:
        write_picture(args.out, render_curves(curves, title, args.reach, args.x))
        print(args.out)
