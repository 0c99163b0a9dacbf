"""A model as a function of images, whatever computes it; and a trained one in PyTorch."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.loading import to_arrays
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import MODELS

FLOATS = ('float32', 'bfloat16', 'float16')
# Before the name of a class map, the key of the probabilities of its classes.
PROBABILITIES = 'probabilities/'


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
    """A trained model in PyTorch, its BatchNorm folded, as ``tools/test.py`` runs it.

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
        self.device = find_device(device)
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


def find_device(device: str | torch.device | None) -> torch.device:
    """Return the device of a name, by default the GPU if there is one; `ConfigError` if there is no such device."""
    try:
        found = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f'`device` should be one that this machine and this torch have, such as cpu or cuda:0. Found {device!r} '
            f'({str(error).splitlines()[0]}).'
        ) from error
    return found
