"""Exporting a trained model: tracing, quantising, proof of parity, and only then the file."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

import mtl_plugins
from mtl_plugins.deployment.exported_model import ExportedModel, trace
from mtl_plugins.deployment.parity import LIMITS, Row, compare
from mtl_plugins.deployment.quantisation import quantise_onnx, quantise_openvino
from mtl_plugins.deployment.runtimes.description import Description
from mtl_plugins.deployment.runtimes.runtime import Runtime, open_graph
from mtl_plugins.deployment.runtimes.torch_runtime import EagerRuntime, describe
from mtl_plugins.deployment.writing import (
    SUFFIXES,
    check_precision,
    import_packages,
    to_onnx,
    to_openvino,
    write_onnx,
    write_openvino,
    write_torch,
)
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.loading import build_loader, checkpoint_digest
from mtl_plugins.utils.files import describe_os_error, make_folder, scratch_folder
from mtl_plugins.utils.score_names import SUMMARY_TITLES

# Images (number, height, width) of the gate: a multiple of all strides, none, and a larger one.
GATE = ((1, 64, 96), (2, 97, 131), (1, 128, 256))


@dataclass(frozen=True)
class Form:
    """What a file should be like.

    Attributes:
        name: ``'onnx'``, ``'torch'`` or ``'openvino'``.
        precision: See :class:`Description`.
        content: See :class:`Description`.
        size: Height and width of the only images that it takes; None for any.
        batch: The only number of images that it takes; None for any.
    """

    name: str
    precision: str = 'float32'
    content: str = 'images'
    size: tuple[int, int] | None = None
    batch: int | None = None


@dataclass(frozen=True)
class Calibration:
    """Data for int8.

    Attributes:
        images: Of the training split, a batch ``(1, H, W, 3)`` each.
        loader: Of the validation split.
        most_worse: How many points a summary score may get worse.
    """

    images: Sequence[np.ndarray]
    loader: DataLoader = field(repr=False)
    most_worse: float = 1.0


def export(
    model: nn.Module, form: Form, out: Path, *, calibration: Calibration | None = None, made: dict | None = None
) -> list[Row]:
    """Write a model to a file that passed the gate.

    Args:
        model: A :class:`MultiTaskSegmentor` in float32 on the CPU; it stays as it is.
        form: Of the file.
        out: The file. OpenVINO's has another one beside it, ``.bin``.
        calibration: For int8.
        made: Where the model comes from, for the file.

    Returns:
        The rows of the gate, all passed.

    Raises:
        ConfigError: If the model cannot be exported so; the message says why.
        UserError: If the file would not compute what the model computes, or cannot be written; an earlier file is unchanged.
    """
    check_precision(form.name, form.precision)
    if form.precision == 'int8' and calibration is None:
        raise ConfigError('int8 should be given training images for its scales. Found none.')
    if form.precision == 'int8' and (form.content, form.size, form.batch) != ('images', None, None):
        raise ConfigError(
            'int8 is for whole files that take any images: leave out `--network-only`, `--size` and `--batch-size`. Found '
            f'{form.content}, {form.size}, {form.batch}.'
        )
    if out.suffix != SUFFIXES[form.name]:
        raise ConfigError(f"`--out` of {form.name} should end with {SUFFIXES[form.name]}. Found '{out}'.")
    import_packages(form.name, form.precision)
    description = describe(
        model,
        content=form.content,
        precision=form.precision,
        size=form.size,
        batch=form.batch,
        made=dict(mtl_plugins=mtl_plugins.__version__, torch=metadata.version('torch'), **(made or {})),
    )
    make_folder(out.parent)
    try:
        with scratch_folder(out) as folder:
            written = folder / out.name
            write(model, form, description, written, calibration.images if calibration else ())
            runtime = open_graph(written)
            rows = compare(model, runtime, gate_images(form), LIMITS[form.precision])
            refuse_failures(rows, form)
            if form.precision == 'int8':
                refuse_losses(model, runtime, calibration)
            weights = written.with_suffix('.bin')
            if weights.exists():
                # So that a kill between the two leaves no graph beside the weights of another one.
                out.unlink(missing_ok=True)
                os.replace(weights, out.with_suffix('.bin'))
            os.replace(written, out)
    except OSError as error:
        raise UserError(f'{describe_os_error(error, out)} Nothing was written; an earlier file is unchanged.') from error
    return rows


def write(model: nn.Module, form: Form, description: Description, path: Path, images: Sequence[np.ndarray] = ()) -> None:
    """Write a model without asking whether the file computes the same.

    Args:
        model: As in :func:`export`.
        form: Of the file.
        description: Of the file.
        path: Of the file.
        images: To quantise with.

    Raises:
        ConfigError: If it cannot be exported so.
    """
    # In int8 a plain convolution is faster than the products that are fewer; in float it is the other way round.
    function = ExportedModel(model, form.content, _traced_dtype(form), factored_upsampling=form.precision != 'int8')
    program = trace(function, batch=form.batch, size=form.size)
    if form.name == 'torch':
        write_torch(program, description, path)
        return
    graph = to_onnx(program, description)
    if form.name == 'onnx':
        write_onnx(quantise_onnx(graph, images) if form.precision == 'int8' else graph, description, path)
        return
    graph = to_openvino(graph)
    write_openvino(quantise_openvino(graph, images) if form.precision == 'int8' else graph, description, path)


def _traced_dtype(form: Form) -> torch.dtype:
    """Of the traced weights. What OpenVINO rounds, and what is quantised, is traced in float32."""
    return torch.float32 if form.name == 'openvino' or form.precision == 'int8' else getattr(torch, form.precision)


def gate_images(form: Form) -> Iterator[np.ndarray]:
    """Coloured noise of the sizes of the gate, or three batches of the size that is fixed: ``(N, H, W, 3)`` uint8."""
    for number, (batch, *size) in enumerate(GATE):
        rng = np.random.default_rng(number)
        yield np.stack([_coloured_noise(rng, *(form.size or size)) for _ in range(form.batch or batch)])


def _coloured_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise whose amplitude halves with each octave, as that of photographs does: ``(H, W, 3)`` uint8, over the whole range."""
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(1, max(2, min(height, width).bit_length())):
        grid = rng.standard_normal((min(height, 2**octave), min(width, 2**octave), 3)).astype(np.float32)
        picture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)


def refuse_failures(rows: Sequence[Row], form: Form) -> None:
    """Stop if a row of the gate failed.

    Raises:
        UserError: If one did.
    """
    failed = [row for row in rows if not row.passed]
    if failed:
        worst = min(failed, key=lambda row: row.share - row.limit)
        number, height, width = worst.shape
        what = 'the class' if worst.is_class else 'the value'
        print_parity(rows)
        raise UserError(
            f'The file should compute what the model computes: in {form.precision}, {what} of `{worst.label}` should agree in '
            f'{100 * worst.limit:g} % of the pixels. Found {100 * worst.share:.3f} % at {number}x{height}x{width}. Nothing was '
            'written.'
        )


def print_parity(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the gate as a table."""
    table = Table('images', 'output', 'agree (%)', 'at least (%)', 'decided by rounding (pixels)', 'largest difference')
    for row in rows:
        table.add_row(
            'x'.join(map(str, row.shape)),
            row.label,
            f'{100 * row.share:.3f}',
            f'{100 * row.limit:g}',
            str(row.ties) if row.is_class else '',
            '' if row.is_class else f'{row.error:.1e}',
        )
    (console or Console()).print(table)


def provenance(config: Config, checkpoint: str) -> dict:
    """Where a model comes from, for the file."""
    digest = checkpoint_digest(checkpoint)
    return dict(config=Path(config.filename).name, checkpoint=Path(checkpoint).name, checkpoint_sha256=digest)


def load_calibration(config: Config, model: nn.Module, number: int, most_worse: float) -> Calibration:
    """Images of the training split, evenly chosen, and the validation split.

    Raises:
        UserError: If the data cannot be read.
    """
    train = build_loader([model], [config], 'train')
    positions = np.unique(np.linspace(0, len(train.dataset) - 1, number).astype(int))
    images = [train.collate_fn([train.dataset[int(position)]])['inputs'].numpy() for position in positions]
    return Calibration(images, build_loader([model], [config], 'val'), most_worse)


def score(runtime: Runtime, loader: DataLoader, limit: int | None = None) -> dict[str, float]:
    """The summary score of each label that a runtime predicts, over a labelled split.

    Args:
        runtime: Of images.
        loader: Of the split.
        limit: Stop after so many images.

    Raises:
        ConfigError: If the split has no labels.
    """
    kinds: dict[str, LabelKind] = build_labels(loader.dataset.metainfo['labels'], list(runtime.labels))
    scorers = {name: kind.scorer() for name, kind in kinds.items()}
    seen = 0
    for batch in loader:
        predictions = runtime(batch['inputs'].numpy())
        for index, meta in enumerate(batch['metainfo']):
            height, width = meta['ori_shape'][:2]
            for name, stored in batch['targets'].items():
                own = stored[index, :height, :width].numpy()
                if name in scorers and kinds[name].valid(own).any():
                    found = predictions[name][index, :height, :width]
                    scorers[name].add(scorers[name].measure(kinds[name].to_values(own), found))
        seen += len(batch['metainfo'])
        if limit is not None and seen >= limit:
            break
    empty = [name for name, scorer in scorers.items() if scorer.is_empty()]
    if empty:
        raise ConfigError(
            f'The split {loader.dataset.split!r} of {loader.dataset.data_root} should have labels. Found none of {empty}.'
        )
    return {scorer.summary: scorer.scores()[scorer.summary] for scorer in scorers.values()}


def loss_in_points(name: str, before: float, after: float, rules: dict[str, str]) -> float:
    """By how much a summary score got worse, negative if it got better."""
    return before - after if rules[name] == 'greater' else after - before


def rules_of(runtime: Runtime) -> dict[str, str]:
    """Which of two summary scores is better, by name; for a plug-in's label as the first score that its scorer names."""
    rules = {}
    for kind in runtime.labels.values():
        scorer = kind.scorer()
        rules[scorer.summary] = scorer.summary_rule or 'greater'
    return rules


def refuse_losses(model: nn.Module, runtime: Runtime, calibration: Calibration) -> None:
    """Print the scores in float32 and in int8, and stop if one got worse by more than it may.

    Raises:
        UserError: If one did.
    """
    eager = EagerRuntime(model)
    before, after, rules = score(eager, calibration.loader), score(runtime, calibration.loader), rules_of(runtime)
    table = Table('score', 'float32', 'int8', 'worse by', 'at most')
    losses = {name: loss_in_points(name, before[name], after[name], rules) for name in before}
    for name, loss in losses.items():
        title = SUMMARY_TITLES.get(name, name)
        table.add_row(title, f'{before[name]:.2f}', f'{after[name]:.2f}', f'{loss:.2f}', f'{calibration.most_worse:g}')
    Console().print(table)
    worst = max(losses, key=losses.get)
    if not losses[worst] <= calibration.most_worse:
        raise UserError(
            f'In int8 {SUMMARY_TITLES.get(worst, worst)} should get worse by at most {calibration.most_worse:g} points '
            f'(`--max-loss`). Found {losses[worst]:.2f}. Nothing was written.'
        )
