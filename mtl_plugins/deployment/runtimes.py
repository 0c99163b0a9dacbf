"""A model as a function of images, whatever computes it: PyTorch, or an exported file, which describes itself.

ONNX Runtime and OpenVINO are imported when a file asks for them.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError, UserError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_label
from mtl_plugins.loading import to_arrays
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.data_files import ANY, find_misfit, is_number, is_text, parse_json, shorten

FLOATS = ('float32', 'bfloat16', 'float16')
# Before the name of a class map, the key of the probabilities of its classes.
PROBABILITIES = 'probabilities/'
# Sizes that OpenVINO keeps compiled, which costs seconds and megabytes each.
MOST_KEPT = 4
# The key of ONNX' metadata and of OpenVINO's `rt_info`.
KEY = 'mtl_plugins'
FORMAT = 1
# The name of the graph's input.
INPUT = 'images'
_FORM = dict(outputs=[dict(name=is_text)], labels={ANY: {}}, size=[is_number], batch=is_number, made={})


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


class TorchRuntime(Runtime):
    """A trained model in PyTorch, its BatchNorm folded, as ``mtl test`` runs it.

    Args:
        model: Built and loaded; it stays as it is.
        device: The first GPU by default, if there is one.
        precision: Of the weights: ``'float32'``, ``'bfloat16'`` or ``'float16'``.
        compiled: Compile the network with ``torch.compile``.
        tta_model: Config of :class:`MultiTaskTTAModel` without ``model``, or None for one view.
        probabilities: Give those of the classes, too; of one view only.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device | None = None,
        precision: str = 'float32',
        compiled: bool = False,
        tta_model: Mapping[str, Any] | None = None,
        probabilities: bool = False,
    ) -> None:
        if precision not in FLOATS:
            raise ConfigError(f'`precision` should be one of {list(FLOATS)}. Found {precision!r}.')
        if probabilities and tta_model:
            raise ConfigError('`probabilities` should be False with test-time augmentation, which merges several. Found True.')
        try:
            self.device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f'`device` should be one that this machine and this torch have, such as cpu or cuda:0. Found {device!r} '
                f'({str(error).splitlines()[0]}).'
            ) from error
        fast = prepare_for_inference(model, dtype=getattr(torch, precision), compile={} if compiled else None)
        self.model = fast.to(self.device)
        self.labels = {name: model.data_preprocessor.labels[name] for name in model.label_names}
        self.augmented = MODELS.build({**tta_model, 'model': self.model}) if tta_model else None
        self.probabilities = probabilities

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        height, width = images.shape[1:3]
        try:
            inputs = self.model.data_preprocessor(dict(inputs=torch.from_numpy(images)))['inputs']
            if self.augmented is not None:
                predictions = self.augmented.predict_arrays(inputs, [(height, width)] * len(images))
            elif self.probabilities:
                predictions = self._predict_with_probabilities(inputs)
            else:
                predictions = self.model.predict_arrays(inputs)
            return {name: to_arrays(maps[..., :height, :width]) for name, maps in predictions.items()}
        except RuntimeError as error:
            if not isinstance(error, torch.cuda.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            raise UserError(
                f'{self.device} has not enough memory for a batch of {len(images)} at {width}x{height}. Use a smaller batch, '
                'tiles (`--tile 1024`) or a smaller image (`--short-side 512`).'
            ) from error

    def _predict_with_probabilities(self, inputs: Tensor) -> dict[str, Tensor]:
        decoded, size = self.model.decode(inputs), tuple(inputs.shape[-2:])
        predictions = {}
        for task_name, task in self.model.tasks.items():
            name, last = self.model.labels[task_name], decoded[task_name][-1]
            predictions[name] = task.predict(last, size)
            kind = self.labels[name]
            if kind.is_class_map and last.shape[1] == len(kind.classes):
                views = (task.view_values(task.upsample(one[None].float(), size)[0], task.mergings[0], 1.0) for one in last)
                predictions[f'{PROBABILITIES}{name}'] = torch.stack(list(views))
        return predictions


@dataclass(frozen=True)
class Description:
    """Description of an exported file.

    Attributes:
        labels: Config of the kind of label of each output, by the name of the output, in their order.
        precision: In which the network computes: ``'float32'``, ``'bfloat16'``, ``'float16'`` or ``'int8'``.
        size: Height and width of the only images that it takes; None for any.
        batch: The only number of images that it takes; None for any.
        made: Where it comes from: config, checkpoint, versions.
    """

    labels: dict[str, dict[str, Any]]
    precision: str = 'float32'
    size: tuple[int, int] | None = None
    batch: int | None = None
    made: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text in the file: the attributes, and ``outputs`` with kind, unit and classes for other programs."""
        outputs = [
            dict(name=name, kind=type(kind).__name__, unit=kind.unit, classes=list(getattr(kind, 'classes', ())) or None)
            for name, kind in self.build_labels().items()
        ]
        return json.dumps(dict(format=FORMAT, outputs=outputs, **asdict(self)))

    @classmethod
    def from_json(cls, text: str | None, path: Any) -> 'Description':
        """Read the description of the file ``path``, or raise `CorruptFileError`."""
        try:
            found = parse_json(text or '')
            misfit = find_misfit(found, _FORM)
            if misfit:
                raise ValueError(misfit)
            if found.pop('format') != FORMAT:
                raise ValueError(f'another `format` than {FORMAT}')
            outputs = found.pop('outputs')
            # Objects of JSON keep their order, those of other writers may not.
            found['labels'] = {output['name']: dict(found['labels'][output['name']]) for output in outputs}
            found['size'] = tuple(found['size']) if found['size'] else None
            description = cls(**found)
            if description.precision not in (*FLOATS, 'int8') or not outputs:
                raise ValueError('unknown precision, or no outputs')
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFileError(
                f"'{path}' has no description as `mtl export` writes it ({type(error).__name__}: {shorten(error)}). "
                'Export the checkpoint again.'
            ) from error
        return description

    def build_labels(self) -> dict[str, LabelKind]:
        """Build the kinds of the outputs; `ConfigError` if one is that of a plug-in which is not imported."""
        return {name: build_label(name, config) for name, config in self.labels.items()}


def describe(model: 'nn.Module', **attributes: Any) -> Description:
    """Return the description of a :class:`MultiTaskSegmentor`, with the given attributes."""
    configs = model.data_preprocessor.label_configs
    # As JSON gives them back: lists for tuples, strings for keys.
    labels = {name: json.loads(json.dumps(dict(configs[name]))) for name in model.label_names}
    return Description(labels=labels, **attributes)


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
        """Return the outputs of the graph by name, of contiguous images ``(B, H, W, 3)`` uint8 of a size that it takes."""

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
                f"'{path}' cannot be loaded by OpenVINO; its weights should be next to it, in '{path.with_suffix('.bin').name}': "
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


RUNTIMES = {'.onnx': OnnxRuntime, '.xml': OpenVinoRuntime}


def load_runtime(path: str | Path, *, device: str = 'cpu', threads: int | None = None) -> ExportedRuntime:
    """Load an exported file, ``.onnx`` or ``.xml`` (OpenVINO), which runs no code.

    .. code-block:: python

        runtime = load_runtime('model.onnx', threads=2)
        values = runtime(images)

    Args:
        path: The file.
        device: ``'cpu'``; for ``.onnx`` ``'cuda'`` and ``'cuda:1'`` (with onnxruntime-gpu); for ``.xml`` ``'gpu'``, one of Intel.
        threads: Of a call; as many as the runtime likes by default.

    Raises:
        DataNotFoundError: If there is no such file.
        ConfigError: If the suffix is another one, or the device is not there.
        CorruptFileError: If the file is damaged, or not written by ``mtl export``.
    """
    path = Path(path)
    if path.suffix.lower() not in RUNTIMES:
        raise ConfigError(f"An exported model should be a file with the suffix {', '.join(RUNTIMES)}. Found '{path}'.")
    if not path.is_file():
        raise DataNotFoundError(f"The exported model '{path}' does not exist.")
    return RUNTIMES[path.suffix.lower()](path, device, threads)
