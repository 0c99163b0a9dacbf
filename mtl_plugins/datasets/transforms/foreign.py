"""Transforms of mmcv, mmseg and torchvision, under the sample's own seed."""

import os
import random
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch.overrides import TorchFunctionMode

from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.registry import SCOPE, TRANSFORMS
from mtl_plugins.utils.data_files import find_in_library

# A pixel's number starts here: whatever a library fills borders with is below.
FIRST = 256
# What OpenCV and torch warp exactly: float32 up to this number.
LAST = 2**24
# They read the classes.
READS_CLASSES = ('RandomCrop', 'GenerateEdge')
REFUSED = {
    'RandomMosaic': 'it needs other samples',
    'Albu': 'take a transform of torchvision instead',
    'PackSegInputs': 'take PackMultiTaskInputs instead',
    'Normalize': 'the data preprocessor does that',
    'RandomDepthMix': 'it mixes depth into the image',
}


def build_transform(step: dict | Callable) -> Callable:
    """A step of a pipeline, of this package or of another library.

    ``torchvision.<name>`` is a class of ``torchvision.transforms.v2``. Any other name is a registered one:
    ``mmseg.RandomRotate``, ``mmcv.Pad``. A class that is unknown or cannot serve with label maps is a `UserError`.
    """
    if not isinstance(step, Mapping):
        return step
    if step['type'].startswith('torchvision.'):
        found, arguments = find_in_library(step['type']), {key: value for key, value in step.items() if key != 'type'}
        if found is None:
            raise ConfigError(f'`type` should be a transform of torchvision.transforms.v2. Found {step["type"]!r}.')
        try:
            return TorchvisionTransform(step['type'], found(**arguments))
        except TypeError as error:
            raise ArgumentError(
                f'The arguments of {step["type"]} should be what it takes. Found {arguments} ({error}).'
            ) from error
    built = TRANSFORMS.build({'_scope_': SCOPE, **step})
    if type(built).__module__.partition('.')[0] in ('mmcv', 'mmseg'):
        return OpenMMLabTransform(step['type'], built)
    return built


class ForeignTransform(BaseTransform):
    """A transform of another library on an image and all label maps beside it.

    The library never sees a label map. It moves one map with the number of each pixel, without interpolation; from where each
    number lies afterwards all label maps are gathered, whatever they hold. A pixel that came from nowhere is invalid in each of
    them. All randomness follows from ``results['rng']``, so that a sample is the same in any
    worker and after a resume.

    Raises:
        ArgumentError: On a sample, if the transform interpolates label maps, leaves them behind, gives an image that is not uint8
            RGB, or turns or mirrors an image whose label maps hold directions.
    """

    def __init__(self, name: str, transform: Any) -> None:
        self.name = name
        self.foreign = transform

    @abstractmethod
    def apply(self, results: dict, numbers: np.ndarray | None, classes: np.ndarray | None) -> np.ndarray | None:
        """Change ``results['img']`` and give the moved numbers; the class map is there to be read."""

    def transform(self, results: dict) -> dict:
        labels = {kind.key: kind.invalid for kind in results['labels'].values() if kind.key in results}
        maps = {key: results.pop(key) for key in labels}
        shape = results['img'].shape[:2] if 'img' in results else None
        numbers = pixel_numbers(*shape) if maps and shape else None
        moved = self.apply(results, None if numbers is None else numbers.copy(), maps.get('gt_seg_map'))
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ArgumentError(f'`{self.name}` should give a uint8 RGB image. Found {image.dtype} with the shape {image.shape}.')
        if numbers is None:
            return results
        if moved.shape != image.shape[:2]:
            raise ArgumentError(
                f'`{self.name}` should move label maps as it moves the image. Found it leaves them at {moved.shape}.'
            )
        if np.array_equal(moved, numbers):
            results.update(maps)
            return results
        sources = moved.astype(np.int64)
        if not np.array_equal(sources, moved):
            raise ArgumentError(f'`{self.name}` should take label maps at the nearest pixel. Found that it interpolates them.')
        missing = sources < FIRST
        sources = np.where(missing, 0, sources - FIRST)
        for key, values in maps.items():
            if values.ndim > 2 and not _is_shift(sources, missing, shape[1]):
                raise ArgumentError(
                    f'`{self.name}` should not move the pixels of {key}, whose directions turn with the image. Found it does.'
                )
            gathered = values.reshape(-1, *values.shape[2:])[sources]
            gathered[missing] = labels[key]
            results[key] = gathered
        return results


def pixel_numbers(height: int, width: int) -> np.ndarray:
    """The number of each pixel, row by row, from ``FIRST``: float32 ``(H, W)``."""
    if height * width + FIRST > LAST:
        raise ArgumentError(f'An image should have less than {LAST - FIRST} pixels here. Found {height}x{width}.')
    return np.arange(FIRST, FIRST + height * width, dtype=np.float32).reshape(height, width)


def _is_shift(sources: np.ndarray, missing: np.ndarray, width: int) -> bool:
    """Return True if neighbours stay neighbours, as in a crop."""
    rows, columns = np.divmod(sources, width)
    steps = [
        (np.diff(columns, axis=1), ~missing[:, 1:] & ~missing[:, :-1]),
        (np.diff(rows, axis=0), ~missing[1:] & ~missing[:-1]),
    ]
    return all((step[valid] == 1).all() for step, valid in steps)


_lock = threading.Lock()
# In a fork it is free, whoever holds it here.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """NumPy's and Python's global generators, for this thread alone, seeded; afterwards they are as they were."""
    with _lock:
        states = np.random.get_state(), random.getstate()  # noqa: NPY002  # theirs
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(states[0])  # noqa: NPY002
            random.setstate(states[1])


class OpenMMLabTransform(ForeignTransform):
    """A transform of mmcv or mmseg, which draw from global generators: one thread at a time.

    Its image is BGR, as theirs are. Those that need other samples, swap classes when they flip, or do what another part does
    cannot serve here.
    """

    def __init__(self, name: str, transform: Any) -> None:
        super().__init__(name, transform)
        kind = type(transform).__name__
        if kind in REFUSED:
            raise ArgumentError(f'A pipeline should not hold {kind}: {REFUSED[kind]}. Found {name}.')
        if getattr(transform, 'swap_seg_labels', None):
            raise ArgumentError(f'`swap_seg_labels` of {name} should be None. Found {transform.swap_seg_labels}.')
        self.reads_classes = kind in READS_CLASSES

    def apply(self, results: dict, numbers: np.ndarray | None, classes: np.ndarray | None) -> np.ndarray | None:
        if 'img' in results:
            results['img'] = cv2.cvtColor(results['img'], cv2.COLOR_RGB2BGR)
            results['img_shape'] = results['img'].shape[:2]
        results['seg_fields'] = []
        place = 'gt_seg_map'
        if numbers is not None:
            if self.reads_classes and classes is not None:
                results['gt_seg_map'], place = classes, 'pixel_numbers'
            results[place] = numbers
            results['seg_fields'] = list(dict.fromkeys(('gt_seg_map', place)))
        with seeded(int(results['rng'].integers(2**32))):
            changed = self.foreign(results)
        if changed is None:
            raise ArgumentError(f'`{self.name}` should give a sample. Found None.')
        if changed is not results:
            results.clear()
            results.update(changed)
        image = results['img']
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
            results['img'] = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB)
        results.pop('seg_fields', None)
        moved = results.pop(place, None)
        results.pop('gt_seg_map', None)
        return moved


_DRAWS = {
    torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial,
    torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.random_, torch.Tensor.bernoulli_, torch.Tensor.exponential_,
    torch.Tensor.multinomial, torch.Tensor.bernoulli,
}  # fmt: skip
_LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}


class OwnGenerator(TorchFunctionMode):
    """Lets what torch draws in this thread come from one generator; the global one, and other threads, are left alone."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _LIKE:
            like, *args = args
            kwargs = {'dtype': like.dtype, **kwargs}
            kwargs.pop('memory_format', None)
            func, args = _LIKE[func], (like.shape, *args)
        if func in _DRAWS and kwargs.get('generator') is None:
            kwargs['generator'] = self.generator
        return func(*args, **kwargs)


class TorchvisionTransform(ForeignTransform):
    """A transform of ``torchvision.transforms.v2``; threads work at the same time."""

    def apply(self, results: dict, numbers: np.ndarray | None, classes: np.ndarray | None) -> np.ndarray | None:
        from torchvision import tv_tensors

        seed = int(results['rng'].integers(2**63))
        image = results['img'] if results['img'].flags.writeable else results['img'].copy()
        sample = [tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))]
        if numbers is not None:
            sample.append(tv_tensors.Mask(torch.from_numpy(numbers)[None]))
        try:
            with OwnGenerator(seed):
                sample = self.foreign(*sample) if len(sample) > 1 else [self.foreign(sample[0])]
        except TypeError as error:
            raise ArgumentError(
                f'`{self.name}` should take an image and label maps. Found that it does not ({error}).'
            ) from error
        results['img'] = np.ascontiguousarray(sample[0].permute(1, 2, 0).numpy())
        return None if numbers is None else sample[1][0].numpy()
