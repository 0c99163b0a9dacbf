"""Models in 8-bit integers, after their training."""

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.deployment.description import INPUTS
from mtl_plugins.deployment.exported_model import reason_of
from mtl_plugins.deployment.writing import quiet_exporter
from mtl_plugins.errors import ConfigError
from mtl_plugins.utils.files import scratch_folder

# NNCF sends telemetry otherwise. Read when it is imported.
os.environ.setdefault('NNCF_CI', '1')

OPENVINO_INT8 = {'Convolution', 'ConvolutionBackpropData', 'GroupConvolution', 'MatMul'}


def quantise_openvino(model: Any, images: Sequence[np.ndarray]) -> Any:
    """Return an ``openvino.Model`` whose convolutions and products compute in int8, by NNCF with its bias correction.

    Weights have a scale per channel, activations one per tensor, found on ``images`` and symmetric: OpenVINO computes layers in
    floating point whose input has a zero point of its own. Preparation and decoding stay as they are.

    Args:
        model: In float32, with the content ``'images'``; it may be changed.
        images: A batch each.

    Raises:
        ConfigError: If NNCF cannot do it.
        ModuleNotFoundError: If NNCF is missing.
    """
    import nncf
    from openvino.passes import ConstantFolding, Manager

    nncf.set_log_level(logging.ERROR)
    # NNCF takes the wrong axis for that of the channels where weights of a depthwise convolution are reshaped in the graph.
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    # NNCF would give the depth 256 levels before it is decoded.
    others = sorted({node.get_type_name() for node in model.get_ops()} - OPENVINO_INT8)
    try:
        return nncf.quantize(
            model,
            nncf.Dataset(images, lambda image: {INPUTS['images']: image}),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(types=others),
        )
    except Exception as error:
        raise ConfigError(f'NNCF cannot quantise the graph: {reason_of(error)}') from error


def quantise_onnx(model: Any, images: Sequence[np.ndarray]) -> Any:
    """Return an ONNX ``ModelProto`` whose convolutions compute in int8, by ONNX Runtime's own tool: NNCF's fails on free axes.

    Weights have a scale per channel, activations one per tensor, from the mean of the least values of the batches to that
    of their largest: a single outlier would cost all others their digits.

    Args:
        model: In float32, with the content ``'images'``.
        images: A batch each.

    Raises:
        ConfigError: If ONNX Runtime cannot do it.
        ModuleNotFoundError: If ONNX Runtime is missing.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    batches = iter(images)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(batches, None)
            return None if image is None else {INPUTS['images']: image}

    with scratch_folder(Path(tempfile.gettempdir()) / 'mtl_plugins_int8') as folder:
        source, target = folder / 'float.onnx', folder / 'int8.onnx'
        source.write_bytes(model.SerializeToString())
        try:
            with quiet_exporter():
                quantize_static(
                    source,
                    target,
                    Reader(),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=['Conv'],
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    extra_options=dict(CalibMovingAverage=True),
                )
        except Exception as error:
            raise ConfigError(f'ONNX Runtime cannot quantise the graph: {reason_of(error)}') from error
        return onnx.load(target)
