"""A model as a function of images, whatever computes it."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from mtl_plugins.deployment.description import Description
from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError, UserError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.utils.data_files import shorten

# Module and class by the suffix of the file: a runtime is imported when a file asks for it.
RUNTIMES = {
    '.onnx': ('mtl_plugins.deployment.runtimes.onnx_runtime', 'OnnxRuntime'),
    '.xml': ('mtl_plugins.deployment.runtimes.openvino_runtime', 'OpenVinoRuntime'),
    '.pt2': ('mtl_plugins.deployment.runtimes.torch_export_runtime', 'TorchExportRuntime'),
}


class Runtime(Protocol):
    """A model as a function of images. It prepares the images and decodes the network's outputs. One call at a time.

    Attributes:
        labels: The kinds of the predicted labels by name, or their configs, as
            :func:`~mtl_plugins.labels.presets.build_labels` takes them.
    """

    labels: Mapping[str, LabelKind]

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Predict.

        Args:
            images: ``(N, H, W, 3)`` uint8 RGB, of any size.

        Returns:
            The values by name of the label, as its kind defines them: class ids ``(N, H, W)`` uint8, metres ``(N, H, W)``
            float32, unit vectors ``(N, H, W, 3)`` float32, and so on. Under ``probabilities/<name>`` there may be those of the
            classes of a class map, ``(N, H, W, classes)`` float32. The arrays are the caller's.
        """
        ...


class ExportedRuntime(Runtime, ABC):
    """Runtime of an exported file, see :func:`load_runtime`. Subclasses implement :meth:`run`.

    Attributes:
        description: The metadata of the file.
    """

    description: Description

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Predict as :class:`Runtime` says.

        Raises:
            ConfigError: If the images are none, or not of the size or number that the file was written for.
            CorruptFileError: If the graph does not run, or an output is not what its label says.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
            raise ConfigError(f'`images` should be uint8 (N, H, W, 3), RGB. Found {images.dtype} {images.shape}.')
        batch, size = self.description.batch, self.description.size
        if batch not in (None, len(images)) or size not in (None, images.shape[1:3]):
            height, width = size or ('H', 'W')
            raise ConfigError(
                f'`images` should be ({batch or "N"}, {height}, {width}, 3), which the file was exported for. Found '
                f'{images.shape}. Export it without `--size` and `--batch-size` for any images.'
            )
        try:
            values = self.run(np.ascontiguousarray(images))
        except UserError:
            raise
        except Exception as error:
            # Each runtime fails in its own way where a graph is not as described.
            raise CorruptFileError(f'The exported model does not run: {shorten(error)}') from error
        for name, kind in self.labels.items():
            expected = np.uint8 if kind.is_class_map else np.float32
            if values[name].dtype != expected or values[name].shape[:3] != images.shape[:3]:
                found = f'{values[name].dtype} {values[name].shape}'
                raise CorruptFileError(f'The output {name} should be {np.dtype(expected)} {images.shape[:3]}. Found {found}.')
        return values

    @abstractmethod
    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs of the graph by name, of a contiguous array that it takes."""

    @cached_property
    def labels(self) -> dict[str, LabelKind]:
        """The kind of label of each output by its name, in the order of the outputs."""
        return self.description.build_labels()


def load_runtime(
    path: str | Path, *, device: str = 'cpu', threads: int | None = None, network_only: bool = False
) -> ExportedRuntime:
    """Load an exported file: ``.onnx``, ``.xml`` (OpenVINO) or ``.pt2`` (torch.export).

    .. code-block:: python

        runtime = load_runtime('model.onnx', threads=2)
        values = runtime(images)

    An ONNX file and OpenVINO's are data. A ``.pt2`` is not: torch runs code that a forged one holds, so open your own only.

    Args:
        path: The file.
        device: ``'cpu'``; ``'cuda'`` and ``'cuda:1'`` for ``.onnx`` (with onnxruntime-gpu) and ``.pt2``; ``'gpu'``, one of Intel,
            for ``.xml``.
        threads: Of a call; as many as the runtime likes by default. For ``.pt2`` those of the whole process.
        network_only: Whether a bare network is accepted, of which only :meth:`ExportedRuntime.run` is of use.

    Raises:
        DataNotFoundError: If there is no such file.
        ConfigError: If the suffix is another one, or the device is not there.
        CorruptFileError: If the file is damaged, or not written by ``tools/deployment/export.py``.
        ModuleNotFoundError: If the package of the runtime is missing; the tools say which extra brings it.
    """
    path = Path(path)
    if path.suffix.lower() not in RUNTIMES:
        raise ConfigError(f"An exported model should be a file with the suffix {', '.join(RUNTIMES)}. Found '{path}'.")
    if not path.is_file():
        raise DataNotFoundError(f"The exported model '{path}' does not exist.")
    module, name = RUNTIMES[path.suffix.lower()]
    runtime = getattr(importlib.import_module(module), name)(path, device=device, threads=threads)
    if runtime.description.content != 'images' and not network_only:
        raise ConfigError(
            f"'{path}' should hold preparation and decoding too. Found the bare network: export it without `--network-only`."
        )
    return runtime
