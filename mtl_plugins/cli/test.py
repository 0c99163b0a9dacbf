"""Evaluate a checkpoint on a labelled split, or predict the test split and pack a submission."""

import argparse

from mtl_plugins.cli.arguments import config_options, refuse_unused
from mtl_plugins.cli.trained import HELP, find_model, open_models


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, parents=[config_options(launcher=True, shared=('batch_size', 'device'))]
    )
    parser.add_argument('model', nargs='+', metavar='MODEL', help=HELP)
    parser.add_argument(
        '--split',
        choices=['val', 'test'],
        default='val',
        help='val is evaluated; test too, if the config has a test_evaluator, else it is predicted',
    )
    parser.add_argument('--submission', metavar='OUT.zip', help='pack the predictions of the split into this archive')
    parser.add_argument('--include-checkpoint', action='store_true', help='put the checkpoint into the archive')
    parser.add_argument('--tta', action='store_true', help='merge the scaled and mirrored views of `tta_model` in the config')
    parser.add_argument(
        '--protocol',
        choices=['courses', 'mtan', 'eigen'],
        help="how depth is scored: means over images (courses, the config's own) or over pixels (mtan), or Eigen's crop to 10 m",
    )
    parser.add_argument('--alignment', choices=['median', 'log', 'linear'], help='fit the depth of each image to its label first')
    parser.add_argument('--json', metavar='OUT.json', help='write the metrics to this file')
    parser.add_argument('--work-dir', '--out', metavar='DIR', help='folder for the log; work_dirs/<config name> by default')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    find_model(parser, args)
    refuse_unused(parser, args, args.submission, 'without --submission', 'include_checkpoint')


def main(args: argparse.Namespace) -> None:
    ((config, checkpoint, _),) = open_models(args, [f'{args.split}_dataloader'])
    if args.split == 'test' and not config.get('test_evaluator'):
        from mtl_plugins.errors import ArgumentError

        if not args.submission:
            raise ArgumentError(
                '--split test is not evaluated, since the config has no `test_evaluator`: say where the predictions go with '
                '--submission OUT.zip.'
            )
        unused = [name for name in ('json', 'protocol', 'alignment') if getattr(args, name)]
        if unused:
            raise ArgumentError(f'--{unused[0]} has no effect with --split test, since the config has no `test_evaluator`.')
    from mtl_plugins.apis.test import test
    from mtl_plugins.config.options import set_protocol, set_test_time_augmentation, set_work_dir

    if args.batch_size:
        config.merge_from_dict({f'{args.split}_dataloader.batch_size': args.batch_size})
    config.launcher = args.launcher
    set_work_dir(config, args.work_dir)
    if args.tta:
        set_test_time_augmentation(config)
    if args.protocol or args.alignment:
        set_protocol(config, args.protocol or 'courses', args.alignment)
    test(
        config,
        checkpoint,
        split=args.split,
        archive=args.submission,
        include_checkpoint=args.include_checkpoint,
        json_path=args.json,
    )
