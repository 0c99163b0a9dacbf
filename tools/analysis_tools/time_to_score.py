"""How long recipes train until they reach given scores: train the rows of a plan with every seed, and write the table."""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='A training ends at the first validation that reaches all targets. Its time is that of the training alone, in '
        'wall and in processor seconds; the latter count on a machine that others use as well. Runs that have a result are not '
        'repeated: interrupt and start again at will. Results of other targets or intervals belong into another folder.',
    )
    parser.add_argument(
        'plan', type=Path, nargs='?', default=Path('docs/time_to_score/plan.json'), help='default: docs/time_to_score/plan.json'
    )
    parser.add_argument(
        '--target',
        nargs='+',
        metavar='NAME=VALUE',
        help="scores to reach, such as mIoU=30 SI-logRMSE=36; default: the plan's `targets`",
    )
    parser.add_argument('--val-iters', type=int, metavar='N', help="iterations between validations; default: the plan's")
    parser.add_argument('--data-root', type=Path, help='data set; by default one is generated below --work-dir as the plan says')
    parser.add_argument('--results', type=Path, help='folder of the JSON files; default: "results" beside the plan')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/time_to_score'),
        help='folder of runs and generated data; default: work_dirs/time_to_score',
    )
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time, which share the cores; default: 1')
    parser.add_argument('--table-only', action='store_true', help='write the table of the results that exist')
    args = parser.parse_args()
    refuse_unused(parser, args, not args.table_only, 'with --table-only', 'jobs')
    return args


def main() -> None:
    args = parse_args()
    from mtl_plugins.config.load import parse_options
    from mtl_plugins.lab.experiments.ablation import ENTRIES, read_plan, run_all
    from mtl_plugins.lab.experiments.data import data_for
    from mtl_plugins.lab.experiments.time_to_score import EXAMPLE, read_targets, table_in_markdown, with_targets
    from mtl_plugins.utils.files import replacing

    plan = read_plan(args.plan, (*ENTRIES, 'targets', 'val_iters'), EXAMPLE)
    targets = read_targets(parse_options(args.target) if args.target else plan['targets'])
    val_iters = args.val_iters or plan['val_iters']
    results = args.results or args.plan.parent / 'results'
    if not args.table_only:
        data_root = data_for(plan['data'], args.data_root, args.work_dir)
        run_all(with_targets(plan, targets, val_iters), results, args.work_dir.resolve(), data_root, args.jobs)
    with replacing(results.parent / 'table.md') as temporary:
        temporary.write_text(table_in_markdown(plan, results, targets, val_iters), encoding='utf-8')


if __name__ == '__main__':
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
