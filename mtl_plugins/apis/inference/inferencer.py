"""A trained model as a function of images."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from mtl_plugins.apis.inference.pretrained import save_pretrained
from mtl_plugins.apis.inference.sources import DECODERS, Frame, read_frames
from mtl_plugins.apis.inference.tiles import ALIGNMENT, check_tile, count_pixels, predict_in_tiles
from mtl_plugins.config.stored_config import ADVICE, find_config
from mtl_plugins.datasets.transforms.foreign import build_transform
from mtl_plugins.datasets.transforms.geometric import ResizeToCover
from mtl_plugins.deployment.runtimes import PROBABILITIES, RUNTIMES, Runtime, TorchRuntime, load_runtime
from mtl_plugins.errors import ConfigError, DataError, UserError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_label
from mtl_plugins.loading import load_model
from mtl_plugins.records.config_data import as_data
from mtl_plugins.utils.data_files import shorten
from mtl_plugins.visualization.prediction_grid import render_prediction, render_side_by_side

# At a time in the network, by default: two images of 1920x1080, which take 600 bytes a pixel in a joint ResNet-18.
MAX_PIXELS = 2**22
# Of an image that is predicted in tiles, which is in memory with its predictions; PIL's limit for files.
MAX_TILED_PIXELS = 178_956_970
MAX_ASPECT = 20
BACKENDS = ('torch', 'compile')


@dataclass(frozen=True, kw_only=True)
class Prediction(Frame):
    """The predictions of one image, beside what is known of the image.

    Attributes:
        values: By name of the label: class ids ``(H, W)`` uint8, metres ``(H, W)`` float32, unit vectors ``(H, W, 3)`` float32,
            probabilities ``(H, W)`` float32, or what else the kind of label defines.
        labels: The kinds by name: names and colours of classes, colours and files of values.
        probabilities: By name of the class map ``(H, W, classes)`` float32, if they were asked for.
    """

    values: Mapping[str, np.ndarray] = field(repr=False)
    labels: Mapping[str, LabelKind] = field(repr=False)
    probabilities: Mapping[str, np.ndarray] = field(repr=False)

    def pictures(self) -> dict[str, np.ndarray]:
        """Return a picture ``(H, W, 3)`` uint8 RGB by name of the label: drawn over the image, with legend or bar."""
        return {name: render_prediction(self.image, values, self.labels[name]) for name, values in self.values.items()}

    def side_by_side(self) -> np.ndarray:
        """Return one picture ``(H, W, 3)`` uint8 RGB of the image and all its predictions in a row."""
        return render_side_by_side(self.image, self.values, self.labels)


class MultiTaskInferencer:
    """Predicts every label of a trained model on any images.

    :meth:`stream` takes and gives one image after the other. Images of one size that follow one another are predicted together;
    none is padded to the size of another one, so that predictions depend on the image alone. They equal those of
    ``mtl test`` for batches of one size.

    Args:
        model: A checkpoint; a model of the zoo or its folder; an exported model (``.onnx``, ``.xml``); or a :class:`Runtime`.
        config: The config of the checkpoint, a file which is run. By default the one stored inside or beside the checkpoint,
            which is only read, see :func:`find_config`.
        cfg_options: Overrides of ``config`` by dotted key.
        device: Such as ``'cpu'`` or ``'cuda:1'``; the first GPU by default, if there is one.
        precision: ``'float32'``, ``'bfloat16'`` or ``'float16'``.
        backend: For a checkpoint ``'torch'``, or ``'compile'``, torch.compile, which compiles for each size of image.
        tta: Merge the scaled and mirrored views that ``tta_model`` of the config describes.
        probabilities: Give the probabilities of classes, too: ``4 * classes`` bytes per pixel.
        batch_size: Images, or tiles, at a time.
        tile: Side of the square tiles in which larger images are predicted, a multiple of 32; None predicts whole images.
        overlap: Of tiles, a multiple of 32; a quarter of ``tile`` by default.
        short_side: Resize each image so that its shorter side has so many pixels; predictions have that size.
        max_pixels: At a time in the network: of an image, whose sides are rounded up to multiples of 32, of a batch, which
            becomes smaller than ``batch_size``, and of a tile. By default four GiB of memory are enough for the models with
            ResNet-18. None is no limit.

    Raises:
        ConfigError: If an argument is wrong, or the checkpoint has no config that can be used.
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """

    def __init__(
        self,
        model: str | Path | Runtime,
        *,
        config: str | Path | None = None,
        cfg_options: Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
        precision: str = 'float32',
        backend: str = 'torch',
        tta: bool = False,
        probabilities: bool = False,
        batch_size: int = 4,
        tile: int | None = None,
        overlap: int | None = None,
        short_side: int | None = None,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        for name, value in dict(batch_size=batch_size, short_side=short_side, max_pixels=max_pixels).items():
            if value is not None and value < 1:
                raise ConfigError(f'`{name}` should be at least 1. Found {value}.')
        if backend not in BACKENDS:
            raise ConfigError(f'`backend` should be one of {", ".join(BACKENDS)}. Found {backend!r}.')
        self.batch_size, self.max_pixels = batch_size, max_pixels
        self.tile, self.overlap = check_tile(tile, overlap)
        if tile and max_pixels and tile**2 > max_pixels:
            raise ConfigError(
                f'`tile` should be smaller for at most {max_pixels:,} pixels at a time (`--max-batch-megapixels`). Found {tile}.'
            )
        self.steps: list[Callable[[dict], dict]] = []
        self._loaded: tuple[Config, str, str | None] | None = None
        if not isinstance(model, (str, Path)) or Path(model).suffix.lower() in RUNTIMES:
            built_in = dict(tta=tta, probabilities=probabilities, config=config, cfg_options=cfg_options)
            built_in |= dict(precision=precision != 'float32', backend=backend != 'torch')
            for name, value in built_in.items():
                if value:
                    raise ConfigError(f'`{name}` should be left out with an exported model, which has it built in.')
            self.runtime = load_runtime(model, device=str(device or 'cpu')) if isinstance(model, (str, Path)) else model
        else:
            network, found = self._load(model, config, cfg_options)
            self.runtime = TorchRuntime(
                network,
                device=device,
                precision=precision,
                compiled=backend == 'compile',
                probabilities=probabilities,
                tta_model=(found.get('tta_model') or dict(type='MultiTaskTTAModel')) if tta else None,
            )
        if short_side is not None:
            self.steps.append(ResizeToCover(short_side))
        self.labels: dict[str, LabelKind] = {
            name: label if isinstance(label, LabelKind) else build_label(name, label)
            for name, label in self.runtime.labels.items()
        }

    def _load(
        self, checkpoint: str | Path, config: str | Path | None, cfg_options: Mapping[str, Any] | None
    ) -> tuple[nn.Module, Config]:
        found = find_config(checkpoint, config, cfg_options)
        self._loaded = found, str(checkpoint), None if config else ADVICE
        try:
            model = load_model(*self._loaded)
            dataset = (found.get('test_dataloader') or {}).get('dataset') or {}
            # Between reading and packing.
            self.steps += [build_transform(dict(step)) for step in (dataset.get('pipeline') or ())[1:-1]]
        except UserError:
            raise
        except Exception as error:
            # Whatever a class says to arguments that nobody checked.
            if config is not None:
                raise
            raise ConfigError(
                f'The steps of {checkpoint} cannot be built from the config stored with it ({shorten(error, 300)}). {ADVICE}'
            ) from error
        return model, found

    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> 'MultiTaskInferencer':
        """Return the inferencer of a model of the zoo or a folder of :meth:`save_pretrained`; options are those of the class."""
        return cls(model, **options)

    def save_pretrained(self, folder: str | Path, half: bool = True) -> None:
        """Write weights, config and a card into a folder that stands for a checkpoint anywhere.

        Args:
            folder: Made if it is missing.
            half: Round the weights to float16, which halves the file. Otherwise predictions of the folder are these to the bit.

        Raises:
            ConfigError: If the model was exported, or is a runtime.
        """
        if self._loaded is None:
            raise ConfigError(
                '`save_pretrained` needs a model that was loaded from a checkpoint. This one has no PyTorch weights.'
            )
        save_pretrained(folder, load_model(*self._loaded), as_data(self._loaded[0]._cfg_dict), half=half)

    def __call__(self, inputs: Any, **options: Any) -> list[Prediction]:
        """Return the predictions of all images; arguments and errors are those of :meth:`stream`."""
        return list(self.stream(inputs, **options))

    def stream(self, inputs: Any, **options: Any) -> Iterator[Prediction]:
        """Give the predictions of images, one after the other in their order.

        No more than a batch and eight images of ``inputs`` are in memory, and a batch of predictions.

        Args:
            inputs: A path (an image, a folder, a pattern, a ``.txt`` list of paths, a video), ``'camera:0'``, an array ``(H, W,
                3)`` uint8 RGB, a picture of PIL, or an iterable of any of these, such as a generator. See :func:`read_frames`.
            options: ``on_error`` and ``max_frames`` of :func:`read_frames`, whose errors are raised, too.

        Raises:
            ConfigError: If a runtime does not predict what its labels say.
        """
        # Large images, one in memory for each place in the queue.
        workers = DECODERS if self.tile is None else 0
        for frames in self._batches(read_frames(inputs, check=self.check_size, prepare=self.prepare, workers=workers, **options)):
            yield from self.predict(frames)

    def _batches(self, frames: Iterable[Frame]) -> Iterator[list[Frame]]:
        """Give prepared frames of one size, one that is predicted in tiles alone."""
        for size, group in groupby(frames, key=lambda frame: frame.image.shape[:2]):
            most = 1 if self._is_tiled(*size) else self._batch_of(*size)
            # Each frame is read when it is asked for, and only a batch is kept.
            while batch := list(islice(group, most)):
                yield batch

    def check_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in which the network gets an image of this size, as far as it is known before :meth:`prepare`.

        Raises:
            DataError: If it is too large for the network.
        """
        before = height, width
        if all(isinstance(step, ResizeToCover) for step in self.steps):
            for step in self.steps:
                height, width = step.new_size(height, width)
            self._check(height, width, before)
        return height, width

    def _check(self, height: int, width: int, before: tuple[int, int]) -> None:
        """Raise `DataError` if a prepared image is too large."""
        if self.max_pixels is None:
            return
        found = f'Found {before[1]}x{before[0]}' + (f', resized to {width}x{height}.' if before != (height, width) else '.')
        if self._is_tiled(height, width):
            if height * width > (most := max(MAX_TILED_PIXELS, self.max_pixels)):
                raise DataError(f'An image in tiles should have at most {most:,} pixels (`--max-batch-megapixels`). {found}')
        elif max(height, width) > MAX_ASPECT * min(height, width):
            raise DataError(
                f'An image should be at most {MAX_ASPECT} times as long as wide, unless it is predicted in tiles. {found}'
            )
        elif (pixels := self._pixels(height, width)) > self.max_pixels:
            raise DataError(
                f'An image should have at most {self.max_pixels:,} pixels where the network sees it, each side rounded up to a '
                f'multiple of {ALIGNMENT}. {found[:-1]}, {pixels:,}. Resize it, or raise the limit: `--short-side`, '
                '`--tile` and `--max-batch-megapixels`.'
            )

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return the image ``(H, W, 3)`` as the network gets it: after the steps of the config's test pipeline.

        Raises:
            DataError: If it is too large then.
        """
        before = image.shape[:2]
        self.check_size(*before)
        results = dict(img=image, ori_shape=before, length_scale=1.0, labels={})
        for step in self.steps:
            results = step(results)
        self._check(*results['img'].shape[:2], before)
        return results['img']

    def _is_tiled(self, height: int, width: int) -> bool:
        return self.tile is not None and max(height, width) > self.tile

    def _pixels(self, height: int, width: int) -> int:
        """Return how many pixels the network computes for an image: of the largest view, with test-time augmentation."""
        augmented = getattr(self.runtime, 'augmented', None)
        zoom = max(chain(*augmented.scales.values())) if augmented else 1.0
        return count_pixels(round(height * zoom), round(width * zoom))

    def _batch_of(self, height: int, width: int) -> int:
        """Return how many images or tiles of a size are predicted together."""
        if self.max_pixels is None:
            return self.batch_size
        return max(min(self.batch_size, self.max_pixels // self._pixels(height, width)), 1)

    def predict(self, batch: list[Frame]) -> Iterator[Prediction]:
        """Give the predictions of prepared frames of one size."""
        if self._is_tiled(*batch[0].image.shape[:2]):
            mixes = {f'{prefix}{name}': kind.mix for name, kind in self.labels.items() for prefix in ('', PROBABILITIES)}
            options = dict(tile=self.tile, overlap=self.overlap, batch_size=self._batch_of(self.tile, self.tile))
            maps = [predict_in_tiles(frame.image, self._run, mixes, **options) for frame in batch]
        else:
            arrays = self._run(np.stack([frame.image for frame in batch]))
            maps = [{name: values[number] for name, values in arrays.items()} for number in range(len(batch))]
        for frame, own in zip(batch, maps, strict=True):
            probabilities = {name: own[key] for name in self.labels if (key := f'{PROBABILITIES}{name}') in own}
            values = {name: own[name] for name in self.labels}
            yield Prediction(**vars(frame), values=values, labels=self.labels, probabilities=probabilities)

    def _run(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        arrays = self.runtime(images)
        for name in self.labels:
            found = arrays[name].shape[:3] if name in arrays else None
            if found != images.shape[:3]:
                raise ConfigError(
                    f'{type(self.runtime).__name__} should predict `{name}` of shape {images.shape[:3]}. Found {found}.'
                )
        return arrays
