"""Train a model, predict the test split with its best checkpoint and pack the submission."""

import argparse
from pathlib import Path

from mtl_plugins.cli.arguments import TRAINING, config_options, hide_other_devices


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, parents=[config_options(launcher=True, shared=(*TRAINING, 'device'))])
    parser.add_argument('config', help='config file or name, e.g. joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py')
    parser.add_argument(
        '--work-dir',
        '--out',
        metavar='DIR',
        help='folder for logs, checkpoints and the submission; work_dirs/<config name> by default',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='continue from a checkpoint; "auto" (or nothing) takes the newest of the work dir',
    )
    parser.add_argument(
        '--reschedule',
        action='store_true',
        help='with --resume: go on with the schedule and the optimizer settings of the config where these have changed, for '
        'example to train longer; without it a change is refused',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16 where supported, float16 otherwise')
    parser.add_argument('--no-submission', action='store_true', help='stop after training')
    return parser


def main(args: argparse.Namespace) -> None:
    hide_other_devices(args.device)
    from mtl_plugins.config.load import check_inputs, load_config, parse_options

    options = parse_options(args.cfg_options)
    check_inputs(args.config, options, args.data_root)
    if args.launcher == 'none':
        print(f'Training {Path(args.config).stem}. Loading PyTorch ...', flush=True)
    settings = {name: getattr(args, name) for name in (*TRAINING, 'amp', 'work_dir', 'reschedule')}
    settings |= dict(resume=args.resume == 'auto' or args.resume or False, submission=not args.no_submission)
    config = load_config(args.config, options, args.data_root, **settings)
    from mtl_plugins.apis.train import train

    config.launcher = args.launcher
    train(config)
