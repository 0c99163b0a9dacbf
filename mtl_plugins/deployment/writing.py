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

from mtl_plugins.deployment.description import FLOATS, INPUTS, KEY, Description
from mtl_plugins.deployment.exported_model import reason_of
from mtl_plugins.errors import ConfigError
from mtl_plugins.utils.files import scratch_folder

# Of each format the suffix of its files, its precisions, and the packages that it needs.
SUFFIXES = {'onnx': '.onnx', 'torch': '.pt2', 'openvino': '.xml'}
PRECISIONS = {'onnx': ('float32', 'float16', 'int8'), 'torch': FLOATS, 'openvino': (*FLOATS, 'int8')}
PACKAGES = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'torch': (), 'openvino': ('onnx', 'onnxscript', 'openvino')}
LACKING = {
    ('onnx', 'bfloat16'): 'ONNX Runtime has no convolution in bfloat16 for processors; OpenVINO has, where the processor can',
    ('torch', 'int8'): 'torch.export would need the quantiser of another package; ONNX and OpenVINO have NNCF',
}


def check_format(name: str, precision: str) -> None:
    """Refuse a precision that a format does not know, and import its packages before minutes are spent on a graph.

    Raises:
        ConfigError: If the format does not know it.
        ModuleNotFoundError: If a package is missing; the tools say which extra brings it.
    """
    if precision not in PRECISIONS[name]:
        raise ConfigError(
            f'`--precision` of {name} should be one of {", ".join(PRECISIONS[name])}. Found {precision}: '
            f'{LACKING[name, precision]}.'
        )
    for package in (*PACKAGES[name], *(['nncf'] if (name, precision) == ('openvino', 'int8') else [])):
        importlib.import_module(package)


def write_torch(program: ExportedProgram, description: Description, path: Path) -> None:
    """Write a ``.pt2`` of ``torch.export``, which PyTorch alone reads."""
    for node in program.graph.nodes:
        # Paths of this machine.
        node.meta.pop('stack_trace', None)
    with quiet_exporter():
        torch.export.save(program, path, extra_files={KEY: description.to_json()})


def to_onnx(program: ExportedProgram, description: Description) -> Any:
    """Return the ``ModelProto`` of a graph, its axes named ``batch``, ``height`` and ``width`` where they are free.

    Raises:
        ConfigError: If an operation has no counterpart in ONNX.
    """
    names = dict(input_names=[INPUTS[description.content]], output_names=list(description.labels))
    try:
        with quiet_exporter():
            model = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto
    except Exception as error:
        raise ConfigError(f'The graph has no counterpart in ONNX: {reason_of(error.__cause__ or error)}') from error
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
    """Write a ``ModelProto`` to one file."""
    import onnx

    onnx.helper.set_model_props(model, {KEY: description.to_json()})
    path.write_bytes(model.SerializeToString())


def to_openvino(model: Any) -> Any:
    """Return the ``openvino.Model`` of a ``ModelProto``.

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
    """Write an ``openvino.Model`` to two files, ``.xml`` and beside it ``.bin``; in float16 the weights take 16 bits."""
    import openvino

    model.set_rt_info(description.to_json(), [KEY])
    openvino.save_model(model, path, compress_to_fp16=description.precision == 'float16')


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what exporters log and warn about their own inside."""
    disabled = logging.root.manager.disable
    try:
        logging.disable()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(disabled)
