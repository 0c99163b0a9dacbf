"""Files of torch.export in PyTorch."""

from pathlib import Path

import numpy as np
import torch

from mtl_plugins.deployment.description import KEY, Description
from mtl_plugins.deployment.runtimes.runtime import ExportedRuntime
from mtl_plugins.deployment.runtimes.torch_runtime import find_device
from mtl_plugins.deployment.writing import quiet_exporter
from mtl_plugins.errors import ConfigError, CorruptFileError
from mtl_plugins.utils.checkpoint_io import find_damage


class TorchExportRuntime(ExportedRuntime):
    """See :func:`~mtl_plugins.deployment.runtimes.runtime.load_runtime`."""

    def __init__(self, path: Path, *, device: str = 'cpu', threads: int | None = None) -> None:
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
    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        try:
            values = self.function(torch.from_numpy(inputs).to(self.device))
        except AssertionError as error:
            # What torch found out of the sizes while it traced the model.
            raise ConfigError(
                f'The graph should take images like those it was traced with, not as small. Found {inputs.shape} ({error}).'
            ) from error
        return {name: np.array(values[name].cpu().numpy()) for name in self.description.labels}
