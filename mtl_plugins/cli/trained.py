"""The trained models of a command line: checkpoints, each alone or after the config to use instead of its own."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mtl_plugins.cli.arguments import hide_other_devices, positive
from mtl_plugins.errors import CheckpointError
from mtl_plugins.utils.zoo import describe_missing, is_pretrained, locate_checkpoint

if TYPE_CHECKING:
    from mmengine.config import Config

HELP = 'checkpoint or model of the zoo, whose own config is used; or a config, which is run, and its checkpoint'


class Trained(NamedTuple):
    """A config, the checkpoint, and what to do if a config that is data is refused; None for one that was run."""

    config: 'Config'
    checkpoint: str
    advice: str | None


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add a model to predict with, and the options of :class:`MultiTaskInferencer` that all who do so have."""
    parser.add_argument('model', metavar='CHECKPOINT', help='checkpoint of a training, model of the zoo, or exported model')
    parser.add_argument('--config', help='config of the checkpoint, which is run; by default the stored one, which is only read')
    parser.add_argument('--device', help='such as cpu or cuda:1; the GPU by default, if there is one')
    parser.add_argument(
        '--precision', choices=['float32', 'bfloat16', 'float16'], default='float32', help='of the weights (default: %(default)s)'
    )
    parser.add_argument(
        '--backend',
        choices=['torch', 'compile'],
        default='torch',
        help='PyTorch or torch.compile; for ONNX Runtime and OpenVINO export the checkpoint first (default: %(default)s)',
    )
    parser.add_argument('--short-side', type=positive, metavar='N', help='resize images first: N pixels on the shorter side')


def check_file(checkpoint: str) -> None:
    """Raise a CheckpointError if a checkpoint, or another file of a model, is not there; an address may be."""
    if '://' not in checkpoint and not locate_checkpoint(checkpoint).is_file():
        raise CheckpointError(
            f'Checkpoint {checkpoint}{describe_missing(checkpoint)} Check the path; `last_checkpoint` names the newest of a run.'
        )


def split_models(
    parser: argparse.ArgumentParser, items: Sequence[str], most: int | None = None
) -> tuple[list[tuple[str | None, str]], list[str]]:
    """Return config and checkpoint of each model of ``[CONFIG] CHECKPOINT ...``, and the items after them.

    A config ends in ``.py``, is that of a package (``mmseg::``), or a name of this package's. A checkpoint ends in ``.pth``, or
    is a model of the zoo; the
    first item, and one after a config, may have any name. There are at most ``most`` models.
    """
    pairs: list[tuple[str | None, str]] = []
    items = list(items)
    while items and len(pairs) != most:
        config = items.pop(0) if _is_config(items[0]) else None
        if config is not None and not items:
            parser.error(f'a config should be followed by its checkpoint. Found {config} and no more')
        if config is None and pairs and Path(items[0]).suffix != '.pth' and not is_pretrained(items[0]):
            break
        pairs.append((config, items.pop(0)))
    return pairs, items


def find_model(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Set ``models`` of the arguments to the one model that ``model`` names, for :func:`open_models`."""
    args.models, others = split_models(parser, args.model, most=1)
    if others:
        parser.error(f'give one checkpoint, or a config and its checkpoint. Found {" ".join(args.model)}')


def find_weights(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Set ``config`` and ``checkpoint`` of the arguments to what ``model`` names; a config alone has no checkpoint."""
    if len(args.model) == 1 and _is_config(args.model[0]):
        args.config, args.checkpoint = args.model[0], None
    else:
        find_model(parser, args)
        ((args.config, args.checkpoint),) = args.models


def open_models(args: argparse.Namespace, loaders: Sequence[str] = (), training: bool = False) -> list[Trained]:
    """Return the models with their configs; what can be known within a second is checked first.

    Args:
        args: With ``models`` of :func:`split_models`, ``cfg_options``, ``data_root`` and maybe ``device``.
        loaders: Names of the data loaders that the command needs.
        training: Keep what only a training needs, such as losses.
    """
    hide_other_devices(getattr(args, 'device', None))
    from mtl_plugins.config.load import check_inputs, find_config_file, parse_options
    from mtl_plugins.datasets.multitask.split_listing import check_root

    options = parse_options(args.cfg_options)
    for config, checkpoint in args.models:
        if config is not None and loaders:
            check_inputs(config, options, args.data_root)
        elif config is not None and '::' not in config:
            find_config_file(config)
        elif args.data_root:
            check_root(args.data_root)
        check_file(checkpoint)
    from mtl_plugins.config.stored_config import ADVICE, find_config

    return [
        Trained(
            find_config(checkpoint, config, options, args.data_root, loaders, training), checkpoint, None if config else ADVICE
        )
        for config, checkpoint in args.models
    ]


def _is_config(item: str) -> bool:
    from mtl_plugins.config.load import list_configs

    return item.endswith('.py') or '::' in item or any(item in (path.stem, str(path.with_suffix(''))) for path in list_configs())
