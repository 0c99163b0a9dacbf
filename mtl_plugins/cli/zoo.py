"""List the trained models that the package brings, or put one in."""

import argparse
from pathlib import Path

from mtl_plugins.cli.arguments import refuse_unused

TEXTS = dict(
    data='data that it was trained on, in a phrase',
    data_license='their licence',
    use='what the model is for, in a sentence',
    failures='failures that were seen',
)
FURTHER = dict(
    license='licence of the weights, as hubs write it (apache-2.0, other)',
    note='a further paragraph, such as the spread over seeds',
    config='config in the repository, if the run had it from elsewhere',
    command='command of the training, if the recorded one should not be shown',
)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Without arguments the models are listed. With --run the weights of the run are rounded to float16, scored on the '
        'test split of --data-root, or on the validation split if the config has no test_evaluator, and written into the zoo '
        'with a card; model-index.yml and docs/zoo.md follow.',
    )
    parser.add_argument('name', nargs='?', help='name of the new model, such as camvid-semseg')
    parser.add_argument('--run', type=Path, metavar='DIR', help='work dir, or a checkpoint in one; else the newest is taken')
    parser.add_argument('--data-root', help='folder of the data to score the model on')
    for name, help_ in {**TEXTS, **FURTHER}.items():
        parser.add_argument(f'--{name.replace("_", "-")}', metavar='TEXT', help=help_)
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    refuse_unused(parser, args, args.name, 'without NAME', 'run', 'data_root', *TEXTS, *FURTHER)
    missing = [f'--{name.replace("_", "-")}' for name in ('run', 'data_root', *TEXTS) if args.name and not getattr(args, name)]
    if missing:
        parser.error(f'a new model needs {", ".join(missing)}')


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.lab.zoo import add_model, describe_zoo, summaries

    if args.name:
        folder = add_model(args.name, args.run, args.data_root, {name: getattr(args, name) for name in (*TEXTS, *FURTHER)})
        print(f'Wrote {folder}')
    for name, found in describe_zoo().items():
        scores = ', '.join(f'{title} {value:.2f}' for title, value in summaries(found['about']).items())
        print(f'{name}: {found["about"]["data"]}; {scores}; {found["about"]["megabytes"]} MB')
