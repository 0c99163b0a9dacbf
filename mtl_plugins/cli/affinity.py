"""Conflict between tasks: cosines and norms of their gradients, over training by the log and by layer of checkpoints."""

import argparse
import json
import re
from pathlib import Path

from mtl_plugins.cli.arguments import config_options, positive
from mtl_plugins.cli.trained import HELP, open_models, split_models


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[config_options('with the data of all')],
        epilog='Over training: what strategies that look at gradients log as balance/cosine/<task>-<task> and '
        'balance/norm/<task>; runs of one name, such as several seeds, are one curve. By layer: for each tensor that tasks '
        "share, the gradients of the tasks' losses on batches of the training split, their cosine and the ratio of their norms, "
        'grouped by the first words of its name. The folder gets affinity.json, affinity_over_training and affinity_by_layer, '
        'as PNG and PDF.',
    )
    parser.add_argument(
        'items',
        nargs='+',
        metavar='RUN | MODEL',
        help=f'each a work dir, with all of its checkpoints; or a {HELP}',
    )
    parser.add_argument('--batches', type=positive, default=8, metavar='N', help='batches of a checkpoint (default: 8)')
    parser.add_argument('--level', type=positive, default=3, metavar='N', help='words of a name that make a group (default: 3)')
    parser.add_argument('--seed', type=int, default=0, help='of the order of the data (default: 0)')
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the results; nothing is written without')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    args.runs, args.models, items = [], [], list(args.items)
    while items:
        if Path(items[0]).is_dir():
            args.runs.append(items.pop(0))
        else:
            (pair,), items = split_models(parser, items, most=1)
            args.models.append(pair)


def main(args: argparse.Namespace) -> None:
    import os

    opened = open_models(args, ['train_dataloader'], training=True)
    from mtl_plugins.config.load import DATA_ROOT_VARIABLE
    from mtl_plugins.lab.analysis.task_affinity import checkpoints_of_run, config_of_run, measure_layers, read_affinity_curves
    from mtl_plugins.lab.plots.curves import render_affinity_by_layer, render_affinity_over_training
    from mtl_plugins.lab.tables import Table, print_table
    from mtl_plugins.records.provenance import provenance
    from mtl_plugins.utils.data_files import printable
    from mtl_plugins.utils.files import save_text
    from mtl_plugins.utils.zoo import locate_checkpoint
    from mtl_plugins.visualization.plots import write_picture

    data_root = args.data_root or os.environ.get(DATA_ROOT_VARIABLE)
    curves, tasks = {}, []
    for item in args.runs:
        run = Path(item)
        curves[item] = read_affinity_curves(run, re.sub(r'[_-]seed[_-]?\d+$', '', run.resolve().name))
        tasks += [(config_of_run(run, data_root), path) for path in checkpoints_of_run(run)]
    tasks += [(each.config, locate_checkpoint(each.checkpoint)) for each in opened]
    measured = {str(path): measure_layers(config, path, args.batches, args.level, args.seed) for config, path in tasks}
    logged = [own for own in curves.values() if own]

    titles = ['part', 'cosine', '±', 'conflicts %', 'ratio of norms']
    for name, each in measured.items():
        for pair in next(iter(each['groups'].values()))['pairs']:
            rows = []
            for group, values in each['groups'].items():
                own = values['pairs'][pair]
                percent = None if own['conflicts'] is None else 100 * own['conflicts']
                numbers = zip((own['cosine'], own['deviation'], percent, own['ratio']), '2203', strict=True)
                rows.append([printable(group), *('' if value is None else f'{value:.{digits}f}' for value, digits in numbers)])
            print_table(Table(titles, rows), printable(f'{name}: {pair}'))
    for item, own in curves.items():
        for key, curve in own.items():
            later = curve.values[len(curve.values) // 2 :]
            print(printable(f'{item}: {key} {later.mean():.3f} over the second half of {len(curve.values)} values'))
    if args.out is None:
        return
    document = dict(
        schema_version=1,
        provenance=provenance(),
        seed=args.seed,
        level=args.level,
        curves={
            item: {key: dict(iterations=c.iterations.tolist(), values=c.values.tolist()) for key, c in own.items()}
            for item, own in curves.items()
        },
        checkpoints=measured,
    )
    save_text(args.out / 'affinity.json', json.dumps(document, indent=1) + '\n')
    pictures = {'affinity_over_training': render_affinity_over_training(logged)} if logged else {}
    short = os.path.commonpath([Path(name).parent for name in measured]) if len(measured) > 1 else None
    titles = {str(Path(name).relative_to(short)) if short else name: each for name, each in measured.items()}
    pictures['affinity_by_layer'] = render_affinity_by_layer(titles)
    for name, picture in pictures.items():
        for suffix in ('png', 'pdf'):
            write_picture(args.out / f'{name}.{suffix}', picture)
