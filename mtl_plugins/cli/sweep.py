"""Train the rows and points of a sweep file, each in its own process, and write the table and the plots of the results."""

import argparse
import signal
from pathlib import Path

from mtl_plugins.cli.arguments import positive, refuse_unused


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Start it again, or on more machines with the same --work-dir on a common disk, at will: what has ended is not '
        'repeated, and a training whose process was killed is continued from its checkpoint. sweeps/README.md explains the file.',
    )
    parser.add_argument('sweep', type=Path, help='sweep file, e.g. sweeps/optimizer_lr.py')
    parser.add_argument('--data-root', type=Path, help="data set; by default one is generated as the sweep's `data` says")
    parser.add_argument('--work-dir', type=Path, help='folder of the trainings; work_dirs/sweeps/<sweep name> by default')
    parser.add_argument(
        '--results',
        type=Path,
        help='folder of a JSON file per training; WORK_DIR/results by default',
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder of table.md and plots; next to the results by default')
    where = parser.add_mutually_exclusive_group()
    where.add_argument('--jobs', type=positive, default=1, help='trainings at a time, which share the cores; 1 by default')
    where.add_argument('--gpus', nargs='+', default=[], metavar='ID', help='GPUs, each with a training at a time')
    parser.add_argument('--retry', action='store_true', help='try again what failed')
    parser.add_argument('--worker', action='store_true', help='only train, without a report at the end')
    parser.add_argument('--report-only', action='store_true', help='write the report of the trials that have ended')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    refuse_unused(parser, args, not args.report_only, 'with --report-only', 'jobs', 'gpus', 'retry', 'worker')


def main(args: argparse.Namespace) -> None:
    # A scheduler's signal, as the terminal's: trainings end, and are continued later.
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_sweep(args)
    finally:
        signal.signal(signal.SIGTERM, earlier)


def run_sweep(args: argparse.Namespace) -> None:
    from mtl_plugins.lab.experiments.definition import read_sweep

    sweep = read_sweep(args.sweep)
    if not args.report_only:
        sweep.check()
    from mtl_plugins.errors import UserError
    from mtl_plugins.lab.experiments.points import Points
    from mtl_plugins.lab.experiments.report import write_report
    from mtl_plugins.lab.experiments.results import BASELINE_FILE, ensure_baseline
    from mtl_plugins.lab.experiments.workers import data_for, run_points, slots

    work_dir = (args.work_dir or Path('work_dirs/sweeps') / sweep.name).resolve()
    points = Points(sweep, work_dir, (args.results or work_dir / 'results').resolve())
    data_root = args.data_root if args.report_only else data_for(sweep.data, args.data_root, work_dir)
    if args.retry:
        points.retry()
    if not args.report_only:
        if sweep.baseline:
            ensure_baseline(sweep, points.results / BASELINE_FILE, data_root)
        try:
            run_points(points, data_root, slots(args.jobs, args.gpus))
        except KeyboardInterrupt as error:
            kept = 'Finished trainings are kept. Start the same command again to continue the others.'
            raise KeyboardInterrupt(f'Interrupted. {kept}') from error
    if not args.worker:
        for path in write_report(points, data_root, args.out):
            print(path)
    failed = [record for record in points.records() if record['row'] and record['state'] == 'fail']
    if failed and not args.report_only:
        sentences = ' '.join(f'{record["label"]}, seed {record["seeds"][0]}: {record["error"]}' for record in failed)
        raise UserError(f'{len(failed)} of {len(sweep.points)} trainings failed, and --retry tries them again. {sentences}')
