"""Reading and writing checkpoints without running their code and without half-written files.

mmengine falls back to full unpickling, which runs whatever the file says, when ``torch.load(weights_only=True)`` refuses a
file. This module takes that fallback away.
"""

import argparse
import hashlib
import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import safetensors.torch
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError

from mtl_plugins.errors import CheckpointError
from mtl_plugins.utils.data_files import read_bytes, shorten
from mtl_plugins.utils.files import replacing
from mtl_plugins.utils.zoo import CONFIG_NAME, describe_missing, locate_checkpoint, read_description

POINTER_NAME = 'last_checkpoint'
MOST_POINTER = 2**16

# What mmengine's own checkpoints hold besides tensors and plain Python values, and the options of a script that many others hold.
# None of it runs code when unpickled.
torch.serialization.add_safe_globals(
    [
        HistoryBuffer,
        argparse.Namespace,
        np._core.multiarray._reconstruct,
        np._core.multiarray.scalar,
        np.ndarray,
        np.dtype,
        *(type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32', 'uint32', 'uint8', 'bool')),
    ]
)


def load_checkpoint_file(path: str | os.PathLike, map_location: Any = None) -> dict:
    """Return the content of a file that ``torch.save`` or safetensors wrote, without executing anything in it.

    ``path`` may be the name of a model of the zoo, or a folder that holds one, whose weights must have the SHA-256 of its config.

    Raises:
        CheckpointError: If the file is missing or corrupt, or holds objects other than tensors, plain values and mmengine's log
            history, or weights that are not finite.
    """
    path = locate_checkpoint(path)
    if not path.is_file():
        raise CheckpointError(
            f'Checkpoint {path}{describe_missing(path)} Check the path; `last_checkpoint` names the newest of a run.'
        )
    if path.suffix == '.safetensors':
        return _load_safetensors(path)
    damage = find_damage(path)
    if damage:
        raise CheckpointError(f'Checkpoint {path} is corrupt: {damage}. Use an older one, or copy it again.')
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's sentence on the offending object comes first; its advice on how to load unsafely is left out.
        found = str(error).split('WeightsUnpickler error:')[-1].strip().split('\n')[0].split('. ')[0]
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f'Checkpoint {path} is not a PyTorch checkpoint or is corrupt ({found}).') from error
        raise CheckpointError(
            f'Checkpoint {path} holds objects other than weights and was refused, since loading them could run code ({found}). '
            f'Save its `state_dict` alone and load that.'
        ) from error
    except Exception as error:
        # Forged files fail in torch, zipfile and NumPy with errors of any class.
        reason = str(error).split('\n')[0]
        raise CheckpointError(f'Checkpoint {path} is corrupt or truncated ({reason}). Use an older one.') from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'Checkpoint {path} should hold a dict of weights. Found {type(checkpoint).__name__}.')
    weights = checkpoint.get('state_dict', {})
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise CheckpointError(f'Checkpoint {path} should hold weights by name. Found {shorten(weights)}.')
    check_finite(next((checkpoint[key] for key in ('state_dict', 'model') if key in checkpoint), checkpoint), path)
    return checkpoint


def _load_safetensors(path: Path) -> dict:
    data, expected = path.read_bytes(), read_description(path.parent).get('sha256')
    if expected not in (None, found := hashlib.sha256(data).hexdigest()):
        raise CheckpointError(
            f'{path} should have the SHA-256 {expected} that {CONFIG_NAME} next to it names. Found {found}: the file was changed '
            'or is damaged. Copy the folder again.'
        )
    try:
        weights = safetensors.torch.load(data)
    except SafetensorError as error:
        raise CheckpointError(f'{path} is corrupt or truncated ({error}).') from error
    check_finite(weights, path)
    return dict(state_dict=weights)


def find_damage(path: str | os.PathLike) -> str | None:
    """Return the first wrong checksum of an archive of ``torch.save`` as a phrase, or None.

    torch itself reads flipped bits without a word. Files of other formats have no checksums.
    """
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            # torch stores without compression: what unpacks to more than the file is no checkpoint.
            if sum(entry.file_size for entry in archive.infolist()) > os.path.getsize(path):
                return 'its parts are larger than the file'
            damaged = archive.testzip()
    except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        return shorten(error)
    return damaged and f'the checksum of {damaged} differs'


def check_finite(weights: Any, path: str | os.PathLike) -> None:
    """Refuse weights that are NaN or infinite: predictions from them look like any others."""
    for name, value in weights.items() if isinstance(weights, Mapping) else ():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() and value.device.type != 'meta':
            if not all(torch.isfinite(each) for each in value.detach().aminmax()):
                raise CheckpointError(
                    f'Checkpoint {path} should hold finite weights. Found NaN or infinity in {name}: its training diverged, or '
                    'the file is damaged. Use an older one.'
                )


def download_name(url: str) -> str:
    """Return the name of a downloaded file in torch's folder: its own if it holds a digest of the content, as torchvision's do.

    Else a digest of the address stands before it, since files of several addresses may have the same name.
    """
    name = os.path.basename(urlparse(url).path)
    digest = torch.hub.HASH_REGEX.search(name)
    return name if digest and len(digest[1]) >= 8 else f'{hashlib.sha256(url.encode()).hexdigest()[:8]}_{name}'


def _load_url(url: str, model_dir: str | None = None, map_location: Any = None, **options: Any) -> Any:
    options = {'file_name': download_name(url), **options}
    loaded = torch.hub.load_state_dict_from_url(url, model_dir, map_location, weights_only=True, **options)
    path = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints', options['file_name'])
    if path.is_file():
        damage = find_damage(path)
        if damage:
            raise CheckpointError(f'The download {path} is corrupt: {damage}. Delete it, so that it is loaded again.')
        check_finite(loaded, path)
    return loaded


def _load_weights_only(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    return torch.load(file, map_location=map_location, weights_only=True)


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a local path; mmengine's log prints this name without its first ten letters."""
    return load_checkpoint_file(filename, map_location)


# mmengine has no argument for the functions by which it loads paths, URLs, model zoos and object stores, for every `init_cfg`,
# too. No model is built without this module.
CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
mmengine_checkpoint._safe_torch_load = _load_weights_only
mmengine_checkpoint.load_url = _load_url


def write_pointer(work_dir: str | os.PathLike, checkpoint: str | os.PathLike) -> None:
    """Record ``checkpoint`` as the newest of ``work_dir``, relative to it: the folder may be moved."""
    with replacing(Path(work_dir) / POINTER_NAME, CheckpointError) as temporary:
        temporary.write_text(os.path.relpath(checkpoint, work_dir), encoding='utf-8')


def find_latest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """Return the path of the newest checkpoint of ``work_dir``; None if the run saved none yet."""
    pointer = Path(work_dir) / POINTER_NAME
    if not pointer.is_file():
        return None
    try:
        return str(Path(work_dir) / read_bytes(pointer, MOST_POINTER).decode().strip())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{pointer}' should name the newest checkpoint. It cannot be read: {shorten(error)}.") from error


def find_mismatch(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> str | None:
    """Return how names and shapes of two state dicts differ: counts and the first of each kind, or ``None``.

    A missing ``num_batches_tracked`` is forgiven: old files lack it, and BatchNorm with a momentum does not read it. The further
    state of a module has any size.
    """
    missing = [name for name in expected if name not in found and not name.endswith('num_batches_tracked')]
    unknown = [name for name in found if name not in expected]
    reshaped = [
        name
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape and not name.endswith('_extra_state')
    ]
    details = [
        f'{len(names)} {label} (first: {names[0]})' for names, label in ((missing, 'missing'), (unknown, 'unknown')) if names
    ]
    if reshaped:
        name = reshaped[0]
        shapes = f'{tuple(found[name].shape)} instead of {tuple(expected[name].shape)}'
        details.append(f'{len(reshaped)} of another shape (first: {name}, {shapes})')
    return f'of {len(expected)} weights, {", ".join(details)}' if details else None
