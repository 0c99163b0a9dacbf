"""Exported files in ONNX Runtime, OpenVINO and PyTorch. A package is imported when a file asks for it."""

from abc import ABC, abstractmethod
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtl_plugins.deployment.description import INPUT, KEY, Description
from mtl_plugins.deployment.runtime import Runtime, find_device
from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError, UserError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.utils.checkpoint_io import find_damage
from mtl_plugins.utils.data_files import shorten

# Sizes that OpenVINO keeps compiled, which costs seconds and megabytes each.
MOST_KEPT = 4


class ExportedRuntime(Runtime, ABC):
    """Runtime of an exported file, see :func:`load_runtime`.

    Subclasses are called with the path, ``device`` and ``threads``, set ``description`` and implement :meth:`run`.

    Attributes:
        description: The metadata of the file.
    """

    description: Description

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Predict as :class:`Runtime` says; `ConfigError` for images, `CorruptFileError` for a graph that do not fit."""
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
    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs of the graph by name, of contiguous images that it takes."""

    @cached_property
    def labels(self) -> dict[str, LabelKind]:
        """The kind of label of each output by its name, in the order of the outputs."""
        return self.description.build_labels()


class OnnxRuntime(ExportedRuntime):
    """ONNX Runtime."""

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        import onnxruntime

        kind, _, number = device.partition(':')
        available = onnxruntime.get_available_providers()
        if kind != 'cpu' and (kind != 'cuda' or 'CUDAExecutionProvider' not in available):
            raise ConfigError(
                f'`device` should be cpu, or cuda with onnxruntime-gpu in the place of onnxruntime. Found {device!r}, and this '
                f'onnxruntime has {", ".join(available)}.'
            )
        providers = [('CUDAExecutionProvider', dict(device_id=int(number or 0)))] if kind == 'cuda' else []
        options = onnxruntime.SessionOptions()
        # Without warnings of the optimiser.
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=[*providers, 'CPUExecutionProvider'])
        except Exception as error:
            raise CorruptFileError(f"'{path}' cannot be loaded by ONNX Runtime: {str(error).splitlines()[0]}") from error
        self.description = Description.from_json(self.session.get_modelmeta().custom_metadata_map.get(KEY), path)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        names = list(self.description.labels)
        return dict(zip(names, self.session.run(names, {INPUT: images}), strict=True))


@cache
def get_core() -> Any:
    """Return the one ``openvino.Core`` of the process.

    Each gives the main thread another stack for signals, and unmaps it when it ends. If cores do not end in the reverse order of
    their starts, the stack that is left is gone, and the next signal (the end of a loader's worker is one) kills the process.
    """
    import openvino

    return openvino.Core()


class OpenVinoRuntime(ExportedRuntime):
    """OpenVINO.

    A graph for images of any size is compiled for each size that comes, and kept for the last few: with a size that is known
    OpenVINO computes constants once and chooses faster kernels.
    """

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        self.core = get_core()
        self.device = device.upper().replace(':', '.')
        if self.device.partition('.')[0] not in {each.partition('.')[0] for each in self.core.available_devices}:
            available = ', '.join(each.lower() for each in self.core.available_devices)
            raise ConfigError(f'`device` should be one that OpenVINO finds here, {available}. Found {device!r}.')
        try:
            self.model = self.core.read_model(path)
            info = self.model.get_rt_info([KEY]).astype(str) if self.model.has_rt_info([KEY]) else None
        except RuntimeError as error:
            raise CorruptFileError(
                f"'{path}' cannot be loaded by OpenVINO; its weights should lie beside it, in '{path.with_suffix('.bin').name}': "
                f'{str(error).splitlines()[-1]}'
            ) from error
        self.description = Description.from_json(info, path)
        precision = self.description.precision
        # Without it OpenVINO chooses bfloat16 by itself where the processor has it.
        self.config = dict(PERFORMANCE_HINT='LATENCY', NUM_STREAMS='1', INFERENCE_PRECISION_HINT='f32')
        # In int8 for the layers that stay in floating point.
        lean = precision == 'int8' and 'BF16' in self.core.get_property(self.device, 'OPTIMIZATION_CAPABILITIES')
        if precision == 'bfloat16' or lean:
            self.config['INFERENCE_PRECISION_HINT'] = 'bf16'
        if threads is not None and self.device == 'CPU':
            self.config['INFERENCE_NUM_THREADS'] = str(threads)
        self.request_for = lru_cache(MOST_KEPT)(self._compile)

    def _compile(self, shape: tuple[int, ...]) -> Any:
        model = self.model.clone()
        model.reshape({INPUT: list(shape)})
        return self.core.compile_model(model, self.device, self.config).create_infer_request()

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        request = self.request_for(images.shape)
        request.infer({INPUT: images}, share_inputs=True)
        return {name: request.get_tensor(name).data.copy() for name in self.description.labels}


class TorchExportRuntime(ExportedRuntime):
    """``torch.export`` in PyTorch."""

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        from mtl_plugins.deployment.writing import quiet_exporter

        self.device = find_device(device)
        files = {KEY: ''}
        damage = find_damage(path)
        if damage:
            raise CorruptFileError(f"'{path}' is corrupt: {damage}. Copy or export it again.")
        try:
            with quiet_exporter():
                program = torch.export.load(path, extra_files=files)
        except Exception as error:
            raise CorruptFileError(
                f"'{path}' cannot be loaded by torch {torch.__version__}: {str(error).splitlines()[0]}"
            ) from error
        self.description = Description.from_json(files[KEY], path)
        if self.device.type != 'cpu':
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, str(self.device))
        if threads is not None:
            torch.set_num_threads(threads)
        self.function = program.module()

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        try:
            values = self.function(torch.from_numpy(images).to(self.device))
        except AssertionError as error:
            # An equation of sizes that torch found while it traced the model.
            raise ConfigError(
                f'The graph should take images like those it was traced with, not as small. Found {images.shape} ({error}).'
            ) from error
        return {name: np.array(values[name].cpu().numpy()) for name in self.description.labels}


RUNTIMES = {'.onnx': OnnxRuntime, '.xml': OpenVinoRuntime, '.pt2': TorchExportRuntime}


def load_runtime(path: str | Path, *, device: str = 'cpu', threads: int | None = None) -> ExportedRuntime:
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

    Raises:
        DataNotFoundError: If there is no such file.
        ConfigError: If the suffix is another one, or the device is not there.
        CorruptFileError: If the file is damaged, or not written by ``tools/deployment/export.py``.
    """
    path = Path(path)
    if path.suffix.lower() not in RUNTIMES:
        raise ConfigError(f"An exported model should be a file with the suffix {', '.join(RUNTIMES)}. Found '{path}'.")
    if not path.is_file():
        raise DataNotFoundError(f"The exported model '{path}' does not exist.")
    return RUNTIMES[path.suffix.lower()](path, device, threads)
