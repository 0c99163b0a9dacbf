"""A trained model as a function of images."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mtl_plugins.apis.contenders import build_trained
from mtl_plugins.apis.inference.prediction import Prediction
from mtl_plugins.apis.inference.runtime import (
    PROBABILITIES,
    Runtime,
    TorchRuntime,
    labels_of_runtime,
)
from mtl_plugins.apis.inference.sources import Frame, OnError, read_frames
from mtl_plugins.apis.inference.stored_config import describe_failure, find_config, test_steps
from mtl_plugins.apis.inference.tiles import check_tile, predict_in_tiles
from mtl_plugins.datasets.transforms.foreign import build_transform
from mtl_plugins.datasets.transforms.resize_to_cover import ResizeToCover
from mtl_plugins.deployment.runtime import RUNTIMES, load_runtime
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.labels.label_kind import LabelKind

# What may compute the predictions of a checkpoint.
BACKENDS = ('torch', 'compile', 'onnx', 'openvino')


class MultiTaskInferencer:
    """Predicts every label of a trained model on any images.

    The pattern is that of mmengine's ``BaseInferencer``, whose class is not the parent: it keeps all inputs and results of a call
    in memory, and runs the config that it finds in a checkpoint. :meth:`stream` takes and gives one image after the other.

    Images of one size are predicted together, those that follow one another; none is padded to the size of another one, so that
    predictions depend on the image alone. They equal those of ``tools/test.py`` for batches of one size.

    .. code-block:: python

        inferencer = MultiTaskInferencer('work_dirs/run/best.pth')
        for prediction in inferencer.stream('photos/'):
            metres = prediction.values['depth']

    Args:
        model: A checkpoint; an exported model (``.onnx``, ``.xml``, ``.pt2``); or a :class:`Runtime`.
        config: The config of the checkpoint, a file which is run. By default the one stored inside or beside the checkpoint,
            which is only read, see :func:`find_config`.
        cfg_options: Overrides of ``config`` by dotted key.
        device: Such as ``'cpu'`` or ``'cuda:1'``; the first GPU by default, if there is one.
        precision: ``'float32'``, ``'bfloat16'`` or ``'float16'``.
        backend: What computes the predictions of a checkpoint: ``'torch'``; ``'compile'``, torch.compile, which compiles for
            each size of image; ``'onnx'`` (ONNX Runtime) or ``'openvino'``, for which the model is exported first, to
            a temporary file, and has to pass the gate of :func:`~mtl_plugins.apis.exporting.export`. Their default
            device is the CPU.
        tta: Whether to merge the scaled and mirrored views that ``tta_model`` of the config describes.
        probabilities: Whether to give the probabilities of classes, too: ``4 * classes`` bytes per pixel.
        batch_size: Images, or tiles, at a time.
        tile: Side of the square tiles in which larger images are predicted, a multiple of 32; None predicts whole images.
        overlap: Of tiles, a multiple of 32; a quarter of ``tile`` by default.
        short_side: Resize each image so that its shorter side has so many pixels; predictions have that size.
        labels: Configs or kinds of what a runtime predicts by name, if it does not say itself.

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
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in dict(batch_size=batch_size, short_side=short_side).items():
            if value is not None and value < 1:
                raise ConfigError(f'`{name}` should be at least 1. Found {value}.')
        if backend not in BACKENDS:
            raise ConfigError(f'`backend` should be one of {", ".join(BACKENDS)}. Found {backend!r}.')
        self.batch_size = batch_size
        self.tile, self.overlap = check_tile(tile, overlap)
        self.steps: list[Callable[[dict], dict]] = []
        if isinstance(model, (str, Path)) and Path(model).suffix.lower() not in RUNTIMES:
            self.runtime: Runtime = self._load(model, config, cfg_options, device, precision, backend, tta, probabilities)
        else:
            given = dict(config=config, cfg_options=cfg_options, tta=tta, probabilities=probabilities)
            given |= dict(precision=precision != 'float32', backend=backend != 'torch')
            superfluous = [name for name, value in given.items() if value]
            if superfluous:
                raise ConfigError(f'`{superfluous[0]}` should be left out with an exported model, which has it built in.')
            if isinstance(model, (str, Path)):
                model = load_runtime(model, **({} if device is None else dict(device=str(device))))
            self.runtime = model
        if short_side is not None:
            self.steps.append(ResizeToCover(short_side))
        self.labels: dict[str, LabelKind] = labels_of_runtime(self.runtime, labels)

    def _load(
        self,
        checkpoint: str | Path,
        config: str | Path | None,
        cfg_options: Mapping[str, Any] | None,
        device: str | torch.device | None,
        precision: str,
        backend: str,
        tta: bool,
        probabilities: bool,
    ) -> Runtime:
        found = find_config(checkpoint, config, cfg_options)
        try:
            model = build_trained(found, str(checkpoint))
            self.steps += [build_transform(step) for step in test_steps(found)]
        except UserError:
            raise
        except Exception as error:
            # Whatever a class says to arguments that nobody checked.
            if config is not None:
                raise
            raise describe_failure(checkpoint, error) from error
        if backend in ('onnx', 'openvino'):
            superfluous = [name for name, value in dict(tta=tta, probabilities=probabilities).items() if value]
            if superfluous:
                raise ConfigError(f'`{superfluous[0]}` should be left out, or `backend` be torch. Found {backend}.')
            return self._export(model.eval(), backend, precision, device)
        tta_model = (found.get('tta_model') or dict(type='MultiTaskTTAModel')) if tta else None
        compile_network = {} if backend == 'compile' else None
        options = dict(tta_model=tta_model, probabilities=probabilities, compile=compile_network)
        return TorchRuntime(model, device=device, precision=precision, **options)

    def _export(self, model: nn.Module, backend: str, precision: str, device: str | torch.device | None) -> Runtime:
        """A model in a runtime of exported files, whose file lives as long as this object."""
        # The packages of the extra `deploy`, which others do without.
        from mtl_plugins.apis.exporting import SUFFIXES, Form, export

        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / f'model{SUFFIXES[backend]}'
        export(model, Form(backend, precision), path)
        return load_runtime(path, device=str(device or 'cpu'))

    def __call__(self, inputs: Any, *, on_error: OnError | None = None, max_frames: int | None = None) -> list[Prediction]:
        """The predictions of all images; arguments and errors are those of :meth:`stream`."""
        return list(self.stream(inputs, on_error=on_error, max_frames=max_frames))

    def stream(
        self,
        inputs: Any,
        *,
        on_error: OnError | None = None,
        max_frames: int | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """The predictions of images, one after the other in their order.

        Of ``inputs`` no more than a batch and eight images are in memory, and of the predictions a batch.

        Args:
            inputs: A path (an image, a folder, a pattern, a ``.txt`` list of paths, a video), ``'camera:0'``, an array ``(H, W,
                3)`` uint8 RGB, a picture of PIL, or an iterable of any of these, such as a generator. See :func:`read_frames`.
            on_error: Gets a sentence for each file that cannot be used, which is then left out; None raises it.
            max_frames: Of each video or camera.
            stop: Asked before each frame of a video or camera; True ends it there.

        Raises:
            DataNotFoundError: If an input does not exist.
            ConfigError: If an input is none of these, or a runtime does not predict what its labels say.
            CorruptFileError: If a file cannot be used and there is no ``on_error``.
        """
        for frames in self._batches(read_frames(inputs, on_error, max_frames, stop)):
            yield from self.predict(frames)

    def _batches(self, frames: Iterable[Frame]) -> Iterator[list[tuple[Frame, tuple[int, int]]]]:
        """Prepared frames of one size with their sizes before."""
        batch: list[tuple[Frame, tuple[int, int]]] = []
        for frame in frames:
            prepared = Frame(frame.name, self.prepare(frame.image), frame.stream)
            if batch and (len(batch) == self.batch_size or batch[0][0].image.shape != prepared.image.shape):
                yield batch
                batch = []
            batch.append((prepared, frame.image.shape[:2]))
            if self._is_tiled(prepared.image):
                yield batch
                batch = []
        if batch:
            yield batch

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The image ``(H, W, 3)`` as the network gets it: after the steps of the config's test pipeline."""
        results = dict(img=image, ori_shape=image.shape[:2], length_scale=1.0, labels={})
        for step in self.steps:
            results = step(results)
        return results['img']

    def _is_tiled(self, image: np.ndarray) -> bool:
        return self.tile is not None and max(image.shape[:2]) > self.tile

    def predict(self, batch: list[tuple[Frame, tuple[int, int]]]) -> Iterator[Prediction]:
        """The predictions of prepared frames of one size, which come with their sizes before."""
        first = batch[0][0].image
        if self._is_tiled(first):
            mixes = {name: kind.mix for name, kind in self.labels.items()}
            mixes |= {f'{PROBABILITIES}{name}': kind.mix for name, kind in self.labels.items()}
            options = dict(tile=self.tile, overlap=self.overlap, batch_size=self.batch_size)
            maps = [predict_in_tiles(frame.image, self._run, mixes, **options) for frame, _ in batch]
        else:
            arrays = self._run(np.stack([frame.image for frame, _ in batch]))
            maps = [{name: values[number] for name, values in arrays.items()} for number in range(len(batch))]
        for (frame, size), own in zip(batch, maps, strict=True):
            yield Prediction(
                name=frame.name,
                image=frame.image,
                values={name: own[name] for name in self.labels},
                labels=self.labels,
                original_size=size,
                probabilities={name: own[key] for name in self.labels if (key := f'{PROBABILITIES}{name}') in own},
                stream=frame.stream,
            )

    def _run(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        arrays = self.runtime(images)
        for name in self.labels:
            found = arrays[name].shape[:3] if name in arrays else None
            if found != images.shape[:3]:
                raise ConfigError(
                    f'{type(self.runtime).__name__} should predict `{name}` of shape {images.shape[:3]}. Found {found}.'
                )
        return arrays
