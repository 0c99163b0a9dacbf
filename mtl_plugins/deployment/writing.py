"""Writing a traced model as ONNX, OpenVINO's files or ``.pt2``."""

import contextlib
import importlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from mtl_plugins.deployment.exported_model import reason_of
from mtl_plugins.deployment.runtimes.description import INPUTS, KEY, Description
from mtl_plugins.errors import ConfigError
from mtl_plugins.utils.files import scratch_folder

SUFFIXES = {'onnx': '.onnx', 'torch': '.pt2', 'openvino': '.xml'}
# The precisions that a format knows, and why it lacks others.
PRECISIONS = {
    'onnx': ('float32', 'float16', 'int8'),
    'torch': ('float32', 'bfloat16', 'float16'),
    'openvino': ('float32', 'bfloat16', 'float16', 'int8'),
}
LACKING = {
    ('onnx', 'bfloat16'): 'ONNX Runtime has no convolution in bfloat16 for processors; OpenVINO has, where the processor can',
    ('torch', 'int8'): 'torch.export would need the quantiser of another package; ONNX and OpenVINO have NNCF',
}


def check_precision(form: str, precision: str) -> None:
    """Refuse a precision that a format does not know.

    Raises:
        ConfigError: If it is one.
    """
    if precision not in PRECISIONS[form]:
        raise ConfigError(
            f'`--precision` of {form} should be one of {", ".join(PRECISIONS[form])}. Found {precision}: '
            f'{LACKING[form, precision]}.'
        )


def import_packages(form: str, precision: str) -> None:
    """Import what a format needs, before minutes are spent on a graph.

    Raises:
        ModuleNotFoundError: If a package is missing; the tools say which extra brings it.
    """
    needed = {'torch': (), 'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'openvino': ('onnx', 'onnxscript', 'openvino')}[form]
    for name in (*needed, *(['nncf'] if (form, precision) == ('openvino', 'int8') else [])):
        importlib.import_module(name)


def write_torch(program: ExportedProgram, description: Description, path: Path) -> None:
    """A ``.pt2`` of ``torch.export``, which PyTorch alone reads, from Python or, compiled, from C++."""
    for node in program.graph.nodes:
        # Paths of this machine.
        node.meta.pop('stack_trace', None)
    with quiet_exporter():
        torch.export.save(program, path, extra_files={KEY: description.to_json()})


def to_onnx(program: ExportedProgram, description: Description) -> Any:
    """The ``ModelProto`` of a graph, its axes named ``batch``, ``height`` and ``width`` where they are free.

    Raises:
        ConfigError: If an operation has no counterpart in ONNX.
        ModuleNotFoundError: If the packages of the extra `deploy` are missing.
    """

    names = list(description.labels)
    try:
        with quiet_exporter():
            model = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=[INPUTS[description.content]], output_names=names
            ).model_proto
    except Exception as error:
        cause = error.__cause__ or error
        raise ConfigError(f'The graph has no counterpart in ONNX: {reason_of(cause)}') from error
    first = 1 if description.content == 'images' else 2
    renamed = {}
    for axis, name in ((0, 'batch'), (first, 'height'), (first + 1, 'width')):
        found = model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param
        if found:
            renamed[found] = name
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = renamed.get(axis.dim_param, axis.dim_param)
    # Sizes inside the graph, in torch's names, and paths of this machine.
    del model.graph.value_info[:]
    for each in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del each.metadata_props[:]
    return model


def write_onnx(model: Any, description: Description, path: Path) -> None:
    """A ``ModelProto`` in one file."""
    import onnx

    onnx.helper.set_model_props(model, {KEY: description.to_json()})
    path.write_bytes(model.SerializeToString())


def to_openvino(model: Any) -> Any:
    """The ``openvino.Model`` of a ``ModelProto``.

    Raises:
        ConfigError: If OpenVINO has no counterpart of an operation.
    """
    import openvino

    with scratch_folder(Path(tempfile.gettempdir()) / 'mtl_plugins_onnx') as folder:
        path = folder / 'model.onnx'
        path.write_bytes(model.SerializeToString())
        try:
            converted = openvino.Core().read_model(path)
        except RuntimeError as error:
            raise ConfigError(f'OpenVINO cannot read the graph: {str(error).splitlines()[-1]}') from error
    _smooth_where_asked(converted)
    return converted


def _smooth_where_asked(model: Any) -> None:
    """Resize as PyTorch does with ``antialias``, in place: OpenVINO reads the attribute and smooths only in Pillow's modes."""
    from openvino import opset11 as operations

    pillow = dict(cubic='bicubic_pillow', linear='bilinear_pillow', linear_onnx='bilinear_pillow')
    for node in model.get_ops():
        if node.get_type_name() != 'Interpolate' or not node.get_attributes()['antialias']:
            continue
        attributes = node.get_attributes()
        rows_and_columns = operations.constant(np.array([2, 3]))
        resized = operations.interpolate(
            node.input_value(0),
            operations.gather(node.input_value(1), rows_and_columns, operations.constant(0)),
            pillow[attributes['mode']],
            attributes['shape_calculation_mode'],
            pads_begin=[0, 0, 0, 0],
            axes=rows_and_columns,
            cube_coeff=-0.5,  # as in PyTorch where it smooths
        )
        resized.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(resized.output(0))
    model.validate_nodes_and_infer_types()


def write_openvino(model: Any, description: Description, path: Path) -> None:
    """An ``openvino.Model`` in two files, ``.xml`` and beside it ``.bin``; in float16 the weights take 16 bits."""
    import openvino

    model.set_rt_info(description.to_json(), [KEY])
    openvino.save_model(model, path, compress_to_fp16=description.precision == 'float16')


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Nothing of what torch says about its own inside while it traces and translates."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'torch.fx', 'torch.export', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
