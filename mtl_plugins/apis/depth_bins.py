"""What the picture of depth bins shows: images, from files or of a data root with their labels, and the bins of a model."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import nn

from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.errors import ConfigError, CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.labels.decoding import decode_image
from mtl_plugins.models.decode_heads.bins_depth_head import BinsDepthHead


def read_images(paths: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """``image`` ``(H, W, 3)`` uint8 RGB of each file, of any format that PIL reads.

    Raises:
        DataNotFoundError: If a file does not exist.
        CorruptFileError: If it is no image.
    """
    rows = []
    for path in paths:
        try:
            with Image.open(path) as image:
                rows.append(dict(image=np.array(image.convert('RGB'))))
        except FileNotFoundError as error:
            raise DataNotFoundError(f"The image '{path}' does not exist.") from error
        except (UnidentifiedImageError, OSError) as error:
            raise CorruptFileError(f"The image '{path}' cannot be read ({error}).") from error
    return rows


def read_samples(data_root: str, split: str, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """``image`` and, where labelled, ``depth`` ``(H, W)`` metres, 0 = unknown, of samples in MiniScapes format.

    Raises:
        DataError: If data are missing or broken, or the split has no such sample.
    """
    dataset = MiniScapesDataset(data_root, split, tasks=('depth',), test_mode=True)
    rows = []
    for index in indices:
        if not 0 <= index < len(dataset):
            raise DataError(f'`--indices` should lie in 0..{len(dataset) - 1}, the samples of {split}. Found {index}.')
        info = dataset.get_data_info(index)
        row = dict(image=decode_image(info['img_path']))
        if 'depth' in info['label_paths']:
            kind = dataset.labels['depth']
            row['depth'] = kind.to_values(kind.decode(*info['label_paths']['depth']))
        rows.append(row)
    return rows


def find_bins_head(model: nn.Module) -> BinsDepthHead:
    """The depth head with bins inside a model's decode head.

    Raises:
        ConfigError: If there is none.
    """
    for module in model.decode_head.modules():
        if isinstance(module, BinsDepthHead):
            return module
    raise ConfigError(
        'The model should have a depth head with bins, as AdaptiveDepthHead or FixedBinsDepthHead. Found '
        f'{type(model.decode_head).__name__} without one.'
    )


@torch.inference_mode()
def predict_bins(model: nn.Module, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres ``(H, W)`` and the bins' metres ``(K,)``, in the order of the bins, of an RGB image ``(H, W, 3)`` uint8."""
    head = find_bins_head(model)
    inputs = model.data_preprocessor(dict(inputs=torch.from_numpy(image)[None]))['inputs']
    seen = []
    handle = head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        depth = model.predict_arrays(inputs)['depth'][0]
    finally:
        handle.remove()
    bins = head.predict(seen[0])[1][0]
    height, width = image.shape[:2]
    return depth[:height, :width].cpu().numpy(), bins.cpu().numpy()
