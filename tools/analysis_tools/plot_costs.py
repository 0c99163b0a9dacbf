"""What runs cost and what they reach: parameters by part, FLOPs, memory, time, and a score against each of them."""

import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import image_size

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Parameters are in millions. FLOPs are those of one image of --size forward, a multiply-add being two; memory is '
        'the most that training allocated on the GPU or needed in its process; an epoch is training alone. What a work dir does '
        'not know is left out. The score is that of the best validation of each run. The dashed line of a picture connects the '
        'runs that no cheaper one beats. The folder gets resources.json, resources.md and score_against_<cost>.png.',
    )
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help='work dir, or a folder that holds some at any depth')
    parser.add_argument('--score', default='metrics_summary/multitask', help='metric (default: metrics_summary/multitask)')
    parser.add_argument('--lower-is-better', action='store_true', help='for errors; known for summaries')
    parser.add_argument(
        '--size', type=image_size, default=(256, 256), metavar='HxW', help='image whose FLOPs count (default: 256x256)'
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the results; nothing is written without')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mtl_plugins.errors import ConfigError
    from mtl_plugins.evaluation.scores import rule_of, title_of
    from mtl_plugins.lab.plots.sweep_plots import CostPoint, render_score_against_cost
    from mtl_plugins.lab.report.resources import COSTS, read_costs, resource_table
    from mtl_plugins.lab.runs.work_dirs import require_runs
    from mtl_plugins.lab.tables import to_markdown
    from mtl_plugins.utils.files import save_text
    from mtl_plugins.visualization.plots import write_picture

    costs = read_costs(require_runs(args.runs), args.size)
    if not costs:
        raise ConfigError('The costs of none of the runs are known.')
    known = list(dict.fromkeys(name for cost in costs for name in cost.scores))
    if args.score not in known:
        raise ConfigError(f'`--score` should be a metric of one of the runs: {", ".join(known)}. Found {args.score}.')
    markdown = to_markdown(resource_table(costs, args.score, args.score))
    print(markdown, end='')
    if args.out is None:
        return
    document = dict(schema_version=1, size=args.size, score=args.score, runs=[cost.describe() for cost in costs])
    texts = {'resources.json': json.dumps(document, indent=1) + '\n', 'resources.md': markdown}
    for name, text in texts.items():
        save_text(args.out / name, text)
    lower_is_better = args.lower_is_better or rule_of(args.score) == 'less'
    pictures = []
    for key, title in COSTS.items():
        points = [
            CostPoint(re.sub(r'[_-]seed[_-]?\d+$', '', cost.name), getattr(cost, key), cost.scores[args.score])
            for cost in costs
            if getattr(cost, key) is not None and args.score in cost.scores
        ]
        if points:
            pictures.append(f'score_against_{key}.png')
            picture = render_score_against_cost(points, title, title_of(args.score), lower_is_better)
            write_picture(args.out / pictures[-1], picture)
    print(f'{args.out}: {", ".join([*texts, *pictures])}')


if __name__ == '__main__':
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
