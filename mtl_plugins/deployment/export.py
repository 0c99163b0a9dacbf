"""Exporting a trained model to ONNX or OpenVINO: tracing, quantising, proof of parity, and only then the file."""

import importlib
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mtl_plugins.deployment.parity import LIMITS, check_parity, compare, gate_images
from mtl_plugins.deployment.runtimes import INPUT, KEY, Description, Runtime, get_core, load_runtime
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.loading import checkpoint_digest
from mtl_plugins.models.decode_heads.deeplabv3plus_head import SkipDecoder
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.records.provenance import package_versions
from mtl_plugins.utils.cli import progress_bar
from mtl_plugins.utils.files import describe_os_error, make_folder, scratch_folder

# NNCF sends telemetry otherwise. Read when it is imported.
os.environ.setdefault('NNCF_CI', '1')

OPENVINO_INT8 = {'Convolution', 'ConvolutionBackpropData', 'GroupConvolution', 'MatMul'}

# Of each format the suffix of its files, its precisions, and the packages that it needs.
SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml'}
PRECISIONS = {'onnx': ('float32', 'float16'), 'openvino': ('float32', 'bfloat16', 'float16', 'int8')}
PACKAGES = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'openvino': ('onnx', 'onnxscript', 'openvino')}

# Traced with images of this number and size. Neither side is a multiple of a stride, so that a graph for any size pads.
EXAMPLE_BATCH, EXAMPLE_SIZE = 2, (135, 199)


def export(
    model: nn.Module,
    description: Description,
    out: Path,
    images: Sequence[np.ndarray] = (),
    check_scores: Callable[[Runtime], None] | None = None,
) -> None:
    """Write a model to a file that passed the gate, which is printed.

    Args:
        model: A :class:`MultiTaskSegmentor` in float32 on the CPU, in evaluation mode; it stays as it is.
        description: See :func:`~mtl_plugins.deployment.runtimes.describe`.
        out: The file, whose suffix chooses the format. OpenVINO's has another one next to it, ``.bin``.
        images: For int8, training images ``(1, H, W, 3)`` uint8, on which it finds its scales.
        check_scores: Raises `UserError` if the finished file scores too badly.

    Raises:
        ConfigError: If the model cannot be exported so; the message says why.
        UserError: If the file would not compute what the model computes, or cannot be written; an earlier file is unchanged.
    """
    precision = description.precision
    check_format(format_of(out), precision)
    if precision == 'int8' and not images:
        raise ConfigError('int8 needs training images for its scales: give `--data-root`.')
    if precision == 'int8' and (description.size or description.batch):
        raise ConfigError(
            'int8 is for files that take any images: leave out `--size` and `--batch-size`. Found '
            f'{description.size}, {description.batch}.'
        )
    make_folder(out.parent)
    try:
        with scratch_folder(out) as folder, progress_bar() as bar:
            steps = bar.add_task(f'Writing {out.name}', total=3)
            written = folder / out.name
            write(model, description, written, images)
            bar.update(steps, advance=1, description='Comparing with the model')
            runtime = load_runtime(written)
            check_parity(compare(model, runtime, gate_images(description), LIMITS[precision]), precision)
            bar.update(steps, advance=1, description='Scoring on the validation split' if check_scores else 'Moving')
            if check_scores is not None:
                check_scores(runtime)
            weights = written.with_suffix('.bin')
            if weights.exists():
                # So that a kill between the two leaves no graph beside the weights of another one.
                out.unlink(missing_ok=True)
                os.replace(weights, out.with_suffix('.bin'))
            os.replace(written, out)
    except OSError as error:
        raise UserError(f'{describe_os_error(error, out)} Nothing was written; an earlier file is unchanged.') from error


def provenance(config: Config, checkpoint: str) -> dict[str, Any]:
    """Return where a model comes from, for its file: names, digest of the checkpoint, versions of packages."""
    names = dict(config=Path(config.filename).name, checkpoint=Path(checkpoint).name)
    return dict(names, checkpoint_sha256=checkpoint_digest(checkpoint), **package_versions())


def check_format(name: str, precision: str) -> None:
    """Raise `ConfigError` for a precision that a format does not know; import its packages before minutes are spent."""
    if precision not in PRECISIONS[name]:
        raise ConfigError(f'`--precision` of {name} should be one of {", ".join(PRECISIONS[name])}. Found {precision}.')
    for package in (*PACKAGES[name], *(['nncf'] if precision == 'int8' else [])):
        importlib.import_module(package)


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix: ``'onnx'`` or ``'openvino'``."""
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
    """Write a model without the gate; arguments and errors are those of :func:`export`."""
    is_openvino, is_int8 = format_of(path) == 'openvino', description.precision == 'int8'
    # OpenVINO rounds and quantises what is traced in float32.
    dtype = torch.float32 if is_openvino else getattr(torch, description.precision)
    # In int8 a plain convolution is faster than the products that are fewer; in float it is the other way round.
    function = ExportedModel(model, dtype, factored_upsampling=not is_int8)
    graph = to_onnx(trace(function, batch=description.batch, size=description.size), description)
    if not is_openvino:
        write_onnx(graph, description, path)
        return
    graph = to_openvino(graph)
    write_openvino(quantise(graph, images) if is_int8 else graph, description, path)


def to_onnx(program: ExportedProgram, description: Description) -> Any:
    """Return the ``ModelProto`` of a graph, its axes named ``batch``, ``height`` and ``width`` where they are free."""
    names = dict(input_names=[INPUT], output_names=list(description.labels))
    disabled = logging.root.manager.disable
    try:
        logging.disable()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            model = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto
    except Exception as error:
        raise ConfigError(f'The graph has no counterpart in ONNX: {reason_of(error.__cause__ or error)}') from error
    finally:
        logging.disable(disabled)
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


def quantise(model: Any, images: Sequence[np.ndarray]) -> Any:
    """Return an ``openvino.Model`` whose convolutions and products compute in int8, by NNCF with its bias correction.

    Weights have a scale per channel, activations one per tensor, found on ``images`` and symmetric: OpenVINO computes layers in
    floating point whose input has a zero point of its own. Preparation and decoding stay as they are. ``model`` may be changed.
    """
    import nncf
    from openvino.passes import ConstantFolding, Manager

    # Not by `nncf.set_log_level`, which sets the handlers that NNCF shares with others, too.
    logging.getLogger('nncf').setLevel(logging.ERROR)
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
