"""OpenVINO's files in OpenVINO."""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import openvino

from mtl_plugins.deployment.description import INPUTS, KEY, Description
from mtl_plugins.deployment.runtimes.runtime import ExportedRuntime
from mtl_plugins.errors import ConfigError, CorruptFileError

# Sizes that stay compiled, which costs seconds and megabytes each.
MOST_KEPT = 4


@cache
def get_core() -> openvino.Core:
    """Return the one ``Core`` of the process.

    Each gives the main thread another stack for signals, and unmaps it when it ends. If cores do not end in the reverse order of
    their starts, the stack that is left is gone, and the next signal (the end of a loader's worker is one) kills the process.
    """
    return openvino.Core()


class OpenVinoRuntime(ExportedRuntime):
    """See :func:`~mtl_plugins.deployment.runtimes.runtime.load_runtime`.

    A graph for images of any size is compiled for each size that comes, and kept for the last few: with a size that is known
    OpenVINO computes constants once and chooses faster kernels.
    """

    def __init__(self, path: Path, *, device: str = 'cpu', threads: int | None = None) -> None:
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
        self.name = INPUTS[self.description.content]
        self.request_for = lru_cache(MOST_KEPT)(self._compile)

    def _compile(self, shape: tuple[int, ...]) -> openvino.InferRequest:
        model = self.model.clone()
        model.reshape({self.name: list(shape)})
        return self.core.compile_model(model, self.device, self.config).create_infer_request()

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        request = self.request_for(inputs.shape)
        request.infer({self.name: inputs}, share_inputs=True)
        return {name: request.get_tensor(name).data.copy() for name in self.description.labels}
