"""Try the points of a sweep file, each with a training of its own, and draw what came out."""

import argparse
import signal
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Start it again, or on more machines with the same --work-dir on a common disk, at will: what has ended is not '
        'repeated, and one whose process was killed is continued from its checkpoint. sweeps/README.md explains the file.',
    )
    parser.add_argument('sweep', type=Path, help='sweep file, e.g. sweeps/optimizer_lr.py')
    parser.add_argument('--data-root', type=Path, help="data set; by default one is generated as the sweep's `data` says")
    parser.add_argument('--work-dir', type=Path, help='folder of the sweep; work_dirs/sweeps/<sweep name> by default')
    where = parser.add_mutually_exclusive_group()
    where.add_argument('--jobs', type=int, default=1, help='trainings at a time, which share the cores; 1 by default')
    where.add_argument('--gpus', nargs='+', default=[], metavar='ID', help='GPUs, each with a training at a time')
    parser.add_argument('--retry', action='store_true', help='try again what failed')
    parser.add_argument('--worker', action='store_true', help='only work on trials, without a report at the end')
    parser.add_argument('--report-only', action='store_true', help='write the report of the trials that have ended')
    parser.add_argument('--slurm', type=int, metavar='N', help='submit an array job of N workers instead')
    parser.add_argument('--sbatch-args', default='', metavar='ARGS', help="for sbatch, e.g. '--partition=gpu --gres=gpu:1'")
    parser.add_argument('--wandb', metavar='PROJECT', help='make a sweep of Weights & Biases instead (a YAML file if offline)')
    parser.add_argument('--trial', nargs='+', metavar='KEY=VALUE', help='train this point alone, as an agent of W&B does')
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f'--jobs should be a positive number. Found {args.jobs}')
    refuse_unused(parser, args, args.slurm is not None, 'without --slurm', 'sbatch_args')
    refuse_unused(parser, args, not args.report_only, 'with --report-only', 'jobs', 'gpus', 'retry', 'worker')
    is_elsewhere = args.slurm is not None or args.wandb or args.trial
    place = 'with --slurm, --wandb or --trial'
    refuse_unused(parser, args, not is_elsewhere, place, 'jobs', 'gpus', 'retry', 'worker', 'report_only')
    return args


def main() -> None:
    args = parse_args()
    # A scheduler's signal, as the terminal's: trainings end, and their trials are continued later.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from mtl_plugins.lab.experiments.definition import read_sweep

    sweep = read_sweep(args.sweep)
    sweep.check()
    from mtl_plugins.lab.experiments.data import data_for
    from mtl_plugins.utils.files import make_folder

    work_dir = (args.work_dir or Path('work_dirs/sweeps') / sweep.name).resolve()
    make_folder(work_dir)
    data_root = None if args.report_only else data_for(sweep.data, args.data_root, work_dir)
    shared = ['--work-dir', str(work_dir), *(['--data-root', str(data_root)] if data_root else [])]
    if args.trial:
        from mtl_plugins.lab.experiments.wandb_sweep import train_trial

        train_trial(sweep, args.trial, data_root, work_dir)
        return
    if args.wandb:
        from mtl_plugins.lab.experiments.wandb_sweep import make_wandb_sweep

        print(make_wandb_sweep(sweep, args.wandb, work_dir, shared))
        return
    if args.slurm is not None:
        from mtl_plugins.lab.experiments.slurm import submit

        print(submit(sweep.name, work_dir, args.slurm, [str(args.sweep.resolve()), *shared, '--worker'], args.sbatch_args))
        return
    from mtl_plugins.lab.experiments.report import write_report
    from mtl_plugins.lab.experiments.study import SharedStudy
    from mtl_plugins.lab.experiments.workers import run_trials, slots

    study = SharedStudy(sweep, work_dir)
    if not args.report_only:
        study.enqueue(args.retry)
        run_trials(study, sweep, work_dir, data_root, slots(args.jobs, args.gpus))
    if not args.worker:
        for path in write_report(sweep, study, work_dir):
            print(path)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
