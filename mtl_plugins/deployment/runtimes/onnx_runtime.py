"""ONNX files in ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime

from mtl_plugins.deployment.description import INPUTS, KEY, Description
from mtl_plugins.deployment.runtimes.runtime import ExportedRuntime
from mtl_plugins.errors import ConfigError, CorruptFileError


class OnnxRuntime(ExportedRuntime):
    """See :func:`~mtl_plugins.deployment.runtimes.runtime.load_runtime`."""

    def __init__(self, path: Path, *, device: str = 'cpu', threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        # Warnings of the optimiser are of no use to whom only runs a file.
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=_providers(device))
        except ConfigError:
            raise
        except Exception as error:
            raise CorruptFileError(f"'{path}' cannot be loaded by ONNX Runtime: {str(error).splitlines()[0]}") from error
        self.description = Description.from_json(self.session.get_modelmeta().custom_metadata_map.get(KEY), path)

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        names = list(self.description.labels)
        return dict(zip(names, self.session.run(names, {INPUTS[self.description.content]: inputs}), strict=True))


def _providers(device: str) -> list:
    kind, _, number = device.partition(':')
    if kind == 'cpu':
        return ['CPUExecutionProvider']
    if kind == 'cuda' and 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
        return [('CUDAExecutionProvider', dict(device_id=int(number or 0))), 'CPUExecutionProvider']
    raise ConfigError(
        f'`device` should be cpu, or cuda with onnxruntime-gpu in the place of onnxruntime. Found {device!r}, and this '
        f'onnxruntime has {", ".join(onnxruntime.get_available_providers())}.'
    )
