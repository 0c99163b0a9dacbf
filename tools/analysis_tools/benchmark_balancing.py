"""Train networks of one task and every strategy of task balancing alike, and compare them: delta_m, ranks, costs, over seeds."""

import argparse
import json
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Runs that have a result are not repeated: interrupt and start again at will, also on several machines. delta_m '
        'is the mean relative change of all metrics against the networks of one task, in per cent, positive being better; '
        'intervals are 95 %% t-intervals of the mean over seeds. Beside --results are written table.md, summary.json and '
        'delta_m_against_step.png, whose dashed line connects the rows that no cheaper one beats.',
    )
    parser.add_argument('plan', type=Path, metavar='PLAN', help='what to run, such as docs/task_balancing/plan.json')
    parser.add_argument('--data-root', type=Path, help='data set; by default one is generated below --work-dir as the plan says')
    parser.add_argument('--results', type=Path, help='folder of the JSON files (default: "results" beside the plan)')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/task_balancing'),
        help='folder of runs and generated data (default: work_dirs/task_balancing)',
    )
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time, which share the cores (default: 1)')
    parser.add_argument('--table-only', action='store_true', help='summarise the results that exist')
    args = parser.parse_args()
    refuse_unused(parser, args, not args.table_only, 'with --table-only', 'jobs')
    return args


def main() -> None:
    args = parse_args()
    from mtl_plugins.errors import UserError
    from mtl_plugins.lab.experiments.balancing_benchmark import (
        BalancingBenchmark,
        points_of,
        read_benchmark_plan,
        summary_in_markdown,
    )
    from mtl_plugins.lab.experiments.data import data_for
    from mtl_plugins.lab.report.resources import render_score_against_cost
    from mtl_plugins.utils.files import replacing
    from mtl_plugins.visualization.plots import write_picture

    plan = read_benchmark_plan(args.plan)
    results = args.results or args.plan.parent / 'results'
    data_root = args.data_root if args.table_only else data_for(plan['data'], args.data_root, args.work_dir)
    benchmark = BalancingBenchmark(plan, results, data_root)
    failure = None
    if not args.table_only:
        try:
            benchmark.run(args.work_dir.resolve(), args.jobs)
        except UserError as error:
            failure = error
    try:
        summary = benchmark.summarise()
    except UserError as error:
        raise failure or error from None
    markdown = summary_in_markdown(summary)
    for name, text in {'table.md': markdown, 'summary.json': json.dumps(summary, indent=1) + '\n'}.items():
        with replacing(results.parent / name) as temporary:
            temporary.write_text(text, encoding='utf-8')
    points = points_of(summary)
    if points:
        picture = render_score_against_cost(points, 'milliseconds of a training step', 'delta_m (%)')
        write_picture(results.parent / 'delta_m_against_step.png', picture)
    print(markdown, end='')
    if failure:
        raise failure


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
