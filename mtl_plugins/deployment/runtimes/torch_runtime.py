"""Models in PyTorch: those of torch.export, and those that are not exported at all, for comparison."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtl_plugins.deployment.runtimes.description import KEY, Description, plain_labels
from mtl_plugins.deployment.runtimes.runtime import Runtime
from mtl_plugins.deployment.writing import quiet_exporter
from mtl_plugins.errors import ConfigError, CorruptFileError
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.utils.checkpoint_io import find_damage


class TorchExportRuntime(Runtime):
    """See :func:`~mtl_plugins.deployment.runtimes.runtime.load_runtime`."""

    def __init__(self, path: Path, *, device: str = 'cpu', threads: int | None = None) -> None:
        if device.partition(':')[0] not in ('cpu', 'cuda') or (device != 'cpu' and not torch.cuda.is_available()):
            raise ConfigError(f'`device` should be cpu, or cuda on a machine with CUDA. Found {device!r}.')
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
        if device != 'cpu':
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = device
        self.function = program.module()

    @torch.inference_mode()
    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        try:
            values = self.function(torch.from_numpy(inputs).to(self.device))
        except AssertionError as error:
            # What torch found out of the sizes while it traced the model.
            raise ConfigError(
                f'The graph should take images like those it was traced with, not as small. Found {inputs.shape} ({error}).'
            ) from error
        return {name: np.array(values[name].cpu().numpy()) for name in self.description.labels}


class EagerRuntime(Runtime):
    """A model that is not exported, by its own methods: what others are compared with.

    Args:
        model: A :class:`MultiTaskSegmentor`.
        folded: Whether to run the copy of :func:`prepare_for_inference`, as validation does, or the model as it was trained.
        dtype: Of the weights of that copy.
        compiled: Whether ``torch.compile`` makes code of the network of that copy.
    """

    def __init__(
        self, model: nn.Module, *, folded: bool = True, dtype: torch.dtype = torch.float32, compiled: bool = False
    ) -> None:
        self.model = model.eval()
        if folded:
            self.model = prepare_for_inference(model, dtype=dtype, compile={} if compiled else None)
        self.description = describe(model)

    @torch.inference_mode()
    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        height, width = inputs.shape[1:3]
        maps = self.model.predict_arrays(self.prepare(inputs))
        return {name: _to_values(each[..., :height, :width]) for name, each in maps.items()}

    def prepare(self, images: np.ndarray) -> Tensor:
        """What the network reads, on the device of the weights."""
        return self.model.data_preprocessor(dict(inputs=torch.from_numpy(images)))['inputs']


def describe(model: nn.Module, **attributes: Any) -> Description:
    """The description of a :class:`MultiTaskSegmentor`, with the given attributes."""
    preprocessor = model.data_preprocessor
    network_input = dict(
        mean=preprocessor.mean.flatten().tolist(),
        std=preprocessor.std.flatten().tolist(),
        size_divisor=preprocessor.size_divisor,
    )
    labels = plain_labels(preprocessor.label_configs, model.label_names)
    return Description(labels=labels, network_input=network_input, **attributes)


def _to_values(maps: Tensor) -> np.ndarray:
    """Predicted maps ``(N, H, W)`` or ``(N, C, H, W)`` with the channels last."""
    return (maps if maps.ndim == 3 else maps.permute(0, 2, 3, 1)).contiguous().cpu().numpy()
