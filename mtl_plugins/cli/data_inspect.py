"""Look at a folder of images and labels, say what they seem to be, draw samples, and write dataset.json."""

import argparse
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mtl_plugins.cli.arguments import positive
from mtl_plugins.errors import ConfigError, DataNotFoundError
from mtl_plugins.utils.cli import track

if TYPE_CHECKING:
    from mtl_plugins.labels.label_kind import LabelKind

ROWS = 6


class Inspected(NamedTuple):
    """Properties of a folder that a training is fitted to: images for training, least height and width of those seen."""

    num_images: int
    size: tuple[int, int]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
Each line names a key of dataset.json, the guess, and the reason. Fill in the names of classes, correct what is wrong, and run the
command again: it reads the file that is there, and draws the samples anew. --force guesses again and replaces it.
""",
    )
    parser.add_argument('folder', metavar='FOLDER', type=Path, help='folder with images and labels, of any layout')
    parser.add_argument('--out', type=Path, metavar='FILE', help='where to write (default: FOLDER/dataset.json)')
    parser.add_argument('--samples', type=positive, default=300, metavar='N', help='files of each label to read (default: 300)')
    parser.add_argument('--force', action='store_true', help='replace a dataset.json that is there')
    return parser


def main(args: argparse.Namespace) -> None:
    inspect(args.folder, args.out, args.samples, args.force)


def inspect(folder: Path, out: Path | None = None, most: int = 300, force: bool = False) -> Inspected:
    """Print what a folder holds, write its description unless there is one, and draw a page of samples beside it.

    Raises:
        UserError: If there is nothing to describe, or a file cannot be read or written.
    """
    if not folder.is_dir():
        raise DataNotFoundError(f"The folder '{folder}' does not exist.")
    from mtl_plugins.datasets.inspection import guess_folder
    from mtl_plugins.labels.presets import DESCRIPTION, SAMPLES_PAGE, build_labels, miniscapes_labels
    from mtl_plugins.utils.data_files import printable
    from mtl_plugins.utils.files import save_text

    is_asked, out = force or out is not None, folder / DESCRIPTION if out is None else out
    oddities: list[str] = []
    description = None
    if out.is_file() and not is_asked:
        print(printable(f'{out} is there and describes the folder; `mtl data inspect {folder} --force` guesses anew.'))
        labels = build_labels(miniscapes_labels(folder))
    elif out.exists() and not force:
        raise ConfigError(f'{out} exists. Give another --out, or --force to replace it.')
    else:
        guess = guess_folder(folder, most)
        description, oddities = guess.description, guess.oddities
        labels = build_labels(description['labels'])
        print(printable(f'{folder}, by `key`: guess and reason'))
        for reason in guess.reasons:
            print(printable(f'  {reason}'))
        save_text(out, format_description(description))
        print(printable(f'Wrote {out}: fill in the names of classes, and correct what is wrong.'))
    rows, inspected, lines, odd = survey(folder, labels, description, most)
    for line in [*lines, *(f'odd: {each}' for each in (*oddities, *odd))]:
        print(printable(f'  {line}'))
    page = out.with_name(SAMPLES_PAGE)
    if rows:
        from mtl_plugins.visualization.plots import write_picture
        from mtl_plugins.visualization.prediction_grid import render_prediction_grid

        write_picture(page, render_prediction_grid(rows, labels, tile_width=320))
        print(printable(f'Samples with their labels: {page}'))
    return inspected


def survey(
    folder: Path, labels: Mapping[str, 'LabelKind'], description: dict | None, most: int
) -> tuple[list[dict], Inspected, list[str], list[str]]:
    """Return rows of a page of samples, what matters for a training, lines on images and labels, and what is odd.

    Without a description that of the folder is read.
    """
    import numpy as np

    from mtl_plugins.datasets.multitask.split_listing import list_split
    from mtl_plugins.datasets.packing.packed import decode_sample
    from mtl_plugins.errors import SplitNotFoundError, UserError
    from mtl_plugins.labels.presets import described_layout

    rows, sizes, odd, problems = [], [], [], []
    counts: dict[str, np.ndarray] = {}
    numbers: dict[str, int] = {}
    num_counted = 0
    for split in ('train', 'val', 'test'):
        try:
            with _warnings(odd):
                listing = list_split(folder, split, labels, **described_layout(folder, split, description))
        except SplitNotFoundError:
            if split == 'train':
                raise
            continue
        samples = listing.samples()
        num_images = numbers[split] = len(samples)
        if split != 'train':
            continue
        places = np.unique(np.linspace(0, num_images - 1, min(most, num_images)).astype(int))
        shown = set(places[:: max(len(places) // ROWS, 1)][:ROWS].tolist())
        num_counted = len(places)
        for place in track(places.tolist(), num_counted, 'samples'):
            info = samples[place]
            try:
                sample = decode_sample(info['img_path'], info['label_paths'], listing.labels)
            except UserError as error:
                problems.append(str(error))
                continue
            sizes.append(sample['img'].shape[:2])
            stored = {name: sample[kind.key] for name, kind in labels.items() if kind.key in sample}
            for name, each in stored.items():
                counts[name] = counts.get(name, 0) + labels[name].count(each)
            if place in shown:
                values = {name: labels[name].to_values(each) for name, each in stored.items()}
                rows.append(dict(image=sample['img'], labels=values, predictions={}, caption=str(info['stem'])))
    if not sizes:
        raise UserError(f'None of {num_counted} samples can be read: {problems[0]}')
    heights, widths = zip(*sizes, strict=True)
    least, largest = (min(heights), min(widths)), (max(heights), max(widths))
    ends = ' to '.join(f'{width}x{height}' for height, width in dict.fromkeys((least, largest)))
    listed = ', '.join(f'{split} {number}' for split, number in numbers.items())
    lines = [f'images: {listed}, {ends} (width x height); counted in {num_counted} images for training:']
    for name, each in counts.items():
        lines.append(f'{name}: {labels[name].contents(each)}')
        odd += [f'{name}: {doubt}' for doubt in labels[name].doubts(each, num_counted == numbers['train'])]
    if problems:
        odd.append(f'{len(problems)} of {num_counted} samples cannot be read, such as: {problems[0]}')
    return rows, Inspected(numbers['train'], least), lines, odd


@contextmanager
def _warnings(odd: list[str]) -> Iterator[None]:
    """Take warnings from the log; other messages repeat the description."""
    from mmengine.logging import MMLogger

    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: odd.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    handlers, logger.handlers = logger.handlers, [handler]
    try:
        yield
    finally:
        logger.handlers = handlers


def format_description(description: dict) -> str:
    """Return JSON in which lists of numbers or names, and tables of ids, take one line."""
    text = json.dumps(description, indent=2, ensure_ascii=False)
    text = re.sub(r'("mapping"|"splits"): (\{[^{}]*\})', lambda match: f'{match[1]}: {" ".join(match[2].split())}', text)
    text = re.sub(r'\[\s+([^\[\]{}]*?)\s+\]', lambda match: f'[{" ".join(match[1].split())}]', text)
    return text + '\n'
