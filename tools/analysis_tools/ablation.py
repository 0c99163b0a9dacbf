"""Train every row of a plan with every seed as a sweep, a JSON file per run, and write the table with mean and spread."""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog='Runs that have a result are not repeated unless their config, options or data have changed since: interrupt and '
        'start again at will, also on several machines.',
    )
    parser.add_argument('plan', type=Path, nargs='?', default=Path('docs/ablation/plan.json'), help='what to run')
    parser.add_argument('--data-root', type=Path, help='data set; by default one is generated below --work-dir as the plan says')
    parser.add_argument('--results', type=Path, help='folder of the JSON files; "results" beside the plan by default')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/ablation'), help='folder of runs and generated data')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time, which share the cores')
    parser.add_argument('--table-only', action='store_true', help='write the table of the results that exist')
    args = parser.parse_args()
    refuse_unused(parser, args, not args.table_only, 'with --table-only', 'jobs')
    return args


def main() -> None:
    args = parse_args()
    from mtl_plugins.lab.experiments.ablation import read_plan, run_all, tables_in_markdown
    from mtl_plugins.lab.experiments.data import data_for
    from mtl_plugins.utils.files import replacing

    plan = read_plan(args.plan)
    results = args.results or args.plan.parent / 'results'
    if not args.table_only:
        data_root = data_for(plan['data'], args.data_root, args.work_dir)
        run_all(plan, results, args.work_dir.resolve(), data_root, args.jobs)
    with replacing(results.parent / 'table.md') as temporary:
        temporary.write_text(tables_in_markdown(plan, results), encoding='utf-8')


if __name__ == '__main__':
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
