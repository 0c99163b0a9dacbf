"""Evaluate a checkpoint on a labelled split, or predict the test split and pack a submission."""

import argparse
from typing import TYPE_CHECKING

from mtl_plugins.cli.arguments import config_options, refuse_unused
from mtl_plugins.cli.trained import HELP, find_model, open_models
from mtl_plugins.errors import ConfigError

if TYPE_CHECKING:
    from mmengine.config import Config


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


def set_test_time_augmentation(config: 'Config') -> None:
    """Let the test loop merge the views that ``tta_model`` describes, or refuse a config that has none."""
    if not config.get('tta_model'):
        raise ConfigError(
            '`--tta` needs the views in the config, as in configs/_base_/default_runtime.py: `tta_model = '
            "dict(type='MultiTaskTTAModel')`. This config has no `tta_model`."
        )
    if config.get('test_cfg') is None:
        config.test_cfg = dict(type='InferenceTestLoop')
    loop = config.test_cfg.get('type')
    if loop != 'InferenceTestLoop':
        raise ConfigError(f'`--tta` needs `test_cfg.type` InferenceTestLoop. Found {loop}.')
    config.test_cfg.tta_model = config.tta_model


def set_protocol(config: 'Config', protocol: str, alignment: str | None) -> None:
    """Compare depth as ``protocol`` and ``alignment`` of :class:`MultiTaskMetric` say."""
    evaluators = []
    for each in (config.get('val_evaluator'), config.get('test_evaluator')):
        evaluators += each if isinstance(each, list) else [each] * bool(each)
    metrics = [each for each in evaluators if each.type == 'MultiTaskMetric']
    if not metrics:
        found = ', '.join(str(each.type) for each in evaluators)
        raise ConfigError(f'`--protocol` and `--alignment` need a MultiTaskMetric as evaluator. The config has {found}.')
    for metric in metrics:
        metric.update(protocol=protocol, alignment=alignment)


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
    from mtl_plugins.config.options import set_work_dir

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
