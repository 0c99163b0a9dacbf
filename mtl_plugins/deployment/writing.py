"""Writing a model as ONNX, OpenVINO's files or ``.pt2``, in 8-bit integers too."""

import contextlib
import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mtl_plugins.deployment.description import FLOATS, INPUT, KEY, Description
from mtl_plugins.deployment.exported_runtimes import get_core
from mtl_plugins.errors import ConfigError
from mtl_plugins.models.decode_heads.deeplabv3plus_head import SkipDecoder
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.utils.files import scratch_folder

# NNCF sends telemetry otherwise. Read when it is imported.
os.environ.setdefault('NNCF_CI', '1')

OPENVINO_INT8 = {'Convolution', 'ConvolutionBackpropData', 'GroupConvolution', 'MatMul'}

# Of each format the suffix of its files, its precisions, and the packages that it needs.
SUFFIXES = {'onnx': '.onnx', 'torch': '.pt2', 'openvino': '.xml'}
PRECISIONS = {'onnx': ('float32', 'float16', 'int8'), 'torch': FLOATS, 'openvino': (*FLOATS, 'int8')}
PACKAGES = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'torch': (), 'openvino': ('onnx', 'onnxscript', 'openvino')}

# Traced with images of this number and size. Neither side is a multiple of a stride, so that a graph for any size pads.
EXAMPLE_BATCH, EXAMPLE_SIZE = 2, (135, 199)


def check_format(name: str, precision: str) -> None:
    """Raise `ConfigError` for a precision that a format does not know; import its packages before minutes are spent."""
    if precision not in PRECISIONS[name]:
        raise ConfigError(f'`--precision` of {name} should be one of {", ".join(PRECISIONS[name])}. Found {precision}.')
    for package in (*PACKAGES[name], *(['nncf'] if (name, precision) == ('openvino', 'int8') else [])):
        importlib.import_module(package)


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix: ``'onnx'``, ``'torch'`` or ``'openvino'``."""
    for name, suffix in SUFFIXES.items():
        if path.suffix == suffix:
            return name
    raise ConfigError(f"An exported model should be a file with the suffix {', '.join(SUFFIXES.values())}. Found '{path}'.")


class ExportedModel(nn.Module):
    """A trained model as one function of tensors: preparing images, network, decoding.

    ``factored_upsampling`` is how decoders compute their first convolution, where they choose by the size of the image, which a
    graph for any size cannot.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32, factored_upsampling: bool = True) -> None:
        super().__init__()
        self.model = prepare_for_inference(model, dtype=dtype)
        for module in self.model.modules():
            if isinstance(module, SkipDecoder) and module.factored_upsampling is None:
                module.factored_upsampling = factored_upsampling
        self.model.fix_padding()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the values of each label ``(N, H, W)`` or ``(N, H, W, C)``."""
        maps = self.model.predict_arrays(self.model.data_preprocessor.to_inputs(images))
        rows, columns = (torch.arange(length, device=images.device) for length in images.shape[1:3])
        # Chosen by number, not as a slice: of a slice torch asks how it lies in memory, and the graph would hold that answer
        # for this size.
        return {
            name: (each if each.ndim == 3 else each.permute(0, 2, 3, 1)).index_select(1, rows).index_select(2, columns)
            for name, each in maps.items()
        }


def trace(function: ExportedModel, *, batch: int | None = None, size: tuple[int, int] | None = None) -> ExportedProgram:
    """Trace the graph of a model, for any images or for a number and a size alone; `ConfigError` says what cannot be traced."""
    example = torch.zeros(batch or EXAMPLE_BATCH, *(size or EXAMPLE_SIZE), 3, dtype=torch.uint8)
    free = ({} if batch else {0: Dim.DYNAMIC}) | ({} if size else {1: Dim.DYNAMIC, 2: Dim.DYNAMIC})
    try:
        with torch.no_grad():
            return torch.export.export(function, (example,), dynamic_shapes=(free,), strict=False)
    except Exception as error:
        raise ConfigError(
            f'The model cannot be traced {"at this size" if size else "for images of any size"}: {reason_of(error)}'
            + ('' if size else ' A fixed size may work: pass `--size HxW`.')
        ) from error


def reason_of(error: BaseException) -> str:
    """Return the sentence that matters in an error of an exporter, which may be pages long."""
    lines = [line.strip(' -') for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # torch's first line of these says no more than which axis it is about.
    told = lines[1] if lines[0].startswith('Constraints violated') and len(lines) > 1 else lines[0]
    return f'{told[:300].rstrip(".")}.'


def write(model: nn.Module, description: Description, path: Path, images: Sequence[np.ndarray] = ()) -> None:
    """Write a model without the gate; arguments and errors are those of :func:`~mtl_plugins.deployment.export.export`.

    int8 finds its scales on ``images``, a batch each.
    """
    name, is_int8 = format_of(path), description.precision == 'int8'
    # What OpenVINO rounds, and what is quantised, is traced in float32.
    dtype = torch.float32 if name == 'openvino' or is_int8 else getattr(torch, description.precision)
    # In int8 a plain convolution is faster than the products that are fewer; in float it is the other way round.
    function = ExportedModel(model, dtype, factored_upsampling=not is_int8)
    program = trace(function, batch=description.batch, size=description.size)
    if name == 'torch':
        write_torch(program, description, path)
        return
    graph = to_onnx(program, description)
    if name == 'onnx':
        write_onnx(quantise_onnx(graph, images) if is_int8 else graph, description, path)
        return
    graph = to_openvino(graph)
    write_openvino(quantise_openvino(graph, images) if is_int8 else graph, description, path)


def write_torch(program: ExportedProgram, description: Description, path: Path) -> None:
    """Write a ``.pt2`` of ``torch.export``, which PyTorch alone reads."""
    for node in program.graph.nodes:
        # Paths of this machine.
        node.meta.pop('stack_trace', None)
    with quiet_exporter():
        torch.export.save(program, path, extra_files={KEY: description.to_json()})


def to_onnx(program: ExportedProgram, description: Description) -> Any:
    """Return the ``ModelProto`` of a graph, its axes named ``batch``, ``height`` and ``width`` where they are free."""
    names = dict(input_names=[INPUT], output_names=list(description.labels))
    try:
        with quiet_exporter():
            model = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto
    except Exception as error:
        raise ConfigError(f'The graph has no counterpart in ONNX: {reason_of(error.__cause__ or error)}') from error
    axes = model.graph.input[0].type.tensor_type.shape.dim
    renamed = {axis.dim_param: name for axis, name in zip(axes, ('batch', 'height', 'width'), strict=False)}
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
    """Return the ``openvino.Model`` of a ``ModelProto``."""
    try:
        converted = get_core().read_model(model.SerializeToString(), b'')
    except RuntimeError as error:
        raise ConfigError(f'OpenVINO cannot read the graph: {str(error).strip().splitlines()[-1]}') from error
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


def quantise_openvino(model: Any, images: Sequence[np.ndarray]) -> Any:
    """Return an ``openvino.Model`` whose convolutions and products compute in int8, by NNCF with its bias correction.

    Weights have a scale per channel, activations one per tensor, found on ``images`` and symmetric: OpenVINO computes layers in
    floating point whose input has a zero point of its own. Preparation and decoding stay as they are. ``model`` may be changed.
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
            nncf.Dataset(images, lambda image: {INPUT: image}),
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
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    batches = iter(images)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(batches, None)
            return None if image is None else {INPUT: image}

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
