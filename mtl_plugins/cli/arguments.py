"""Arguments that several commands have, and their values; parsed before the heavy imports."""

import argparse
import os
import re
from collections.abc import Sequence


def image_size(text: str) -> tuple[int, int]:
    """'HxW' to (H, W), as the ``type`` of an argument."""
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if match is None:
        raise argparse.ArgumentTypeError(f'a size is HEIGHTxWIDTH, such as 256x512. Found {text!r}.')
    return int(match[1]), int(match[2])


def positive(text: str) -> int:
    """A whole number from 1, as the ``type`` of an argument."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'should be at least 1. Found {number}')
    return number


def natural(text: str) -> int:
    """A whole number from 0, as the ``type`` of an argument."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'should be at least 0. Found {number}')
    return number


def device(text: str) -> str:
    """``cpu``, ``cuda`` or ``cuda:N``, as the ``type`` of an argument."""
    if re.fullmatch(r'cpu|cuda(:\d+)?', text) is None:
        raise argparse.ArgumentTypeError(f'a device is cpu, cuda or cuda:N. Found {text!r}.')
    return text


def hide_other_devices(name: str | None) -> None:
    """Let torch see one device alone, as the runner has no choice of its own; before torch is imported. None changes nothing."""
    if name is not None:
        known = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')
        number = int(name.partition(':')[2] or 0)
        visible = known[number] if number < len(known) and known[number] else str(number)
        os.environ['CUDA_VISIBLE_DEVICES'] = '' if name == 'cpu' else visible


# Options that mean the same wherever a command has them.
_SHARED = dict(
    epochs=dict(type=positive, metavar='N', help='epochs of the training; warm-up stays, and the decay ends with the last epoch'),
    batch_size=dict(type=positive, metavar='N', help='images at a time, of each process'),
    lr=dict(type=float, metavar='RATE', help='learning rate of the optimizer'),
    size=dict(type=image_size, metavar='HxW', help='height and width of the training crops'),
    seed=dict(type=natural, metavar='N', help='of weights, order and augmentation'),
    device=dict(type=device, help='cpu, cuda or cuda:N; the first GPU by default, if there is one'),
)

# Those that change a training.
TRAINING = ('epochs', 'batch_size', 'lr', 'size', 'seed')


def config_options(
    root: str = 'with train/, val/, test/ for all data sets', launcher: bool = False, shared: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """The options of tools that read a config, for ``parents``.

    Args:
        root: What ``--data-root`` is.
        launcher: Add the launcher of several processes.
        shared: Names of options that mean the same in every command: ``epochs``, ``batch_size``, ``lr``, ``size``, ``seed``,
            ``device``.
    """
    parser = argparse.ArgumentParser(add_help=False)
    for name in shared:
        parser.add_argument(f'--{name.replace("_", "-")}', **_SHARED[name])
    parser.add_argument('--data-root', help=f'folder {root} (or set MTL_DATA_ROOT)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='override config entries, e.g. train_dataloader.batch_size=8 model.backbone.depth=34; unknown keys are refused',
    )
    if launcher:
        parser.add_argument(
            '--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='job launcher (default: none)'
        )
        parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser


def refuse_unused(parser: argparse.ArgumentParser, args: argparse.Namespace, is_used: object, without: str, *names: str) -> None:
    """End with a usage error if options that are not used have another value than by default.

    ``without`` says why they have no effect, such as "without --save points"; ``names`` are those in ``args``.
    """
    for name in names:
        if not is_used and getattr(args, name) != parser.get_default(name):
            parser.error(f'--{name.replace("_", "-")} has no effect {without}')
