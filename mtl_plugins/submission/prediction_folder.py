"""The folder of predictions: one file per test image and task."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from mtl_plugins.submission.errors import InvalidPredictionError, SubmissionError
from mtl_plugins.submission.png_codec import decode_prediction
from mtl_plugins.utils.files import TEMPORARY_SUFFIX

PREDICTIONS = 'predictions'


def find_image_sizes(paths: Iterable[str | Path]) -> dict[str, tuple[int, int]]:
    """Height and width of each image file by its stem, from the headers, in the given order.

    Raises:
        SubmissionError: If there is no image or one cannot be read.
    """
    sizes = {}
    for path in map(Path, paths):
        try:
            with Image.open(path) as image:
                sizes[path.stem] = (image.height, image.width)
        except OSError as error:
            raise SubmissionError(f'Cannot read the image {path}: {error}.') from error
    if not sizes:
        raise SubmissionError('There should be at least one test image. Found none.')
    return sizes


def stem_order(stem: str) -> tuple[int, str]:
    """Sort key: 2 before 10."""
    return (int(stem) if stem.isdecimal() else -1, stem)


def validate_predictions(
    out_dir: str | Path, tasks: Sequence[str], image_sizes: Mapping[str, tuple[int, int]], num_threads: int = 2
) -> None:
    """Checks ``<out_dir>/predictions``: one file per image and task, of the right type, size and values, and nothing else.

    Args:
        out_dir: Folder that a ``SubmissionWriter`` wrote to.
        tasks: The trained tasks.
        image_sizes: Height and width of each test image.
        num_threads: Decoding threads.

    Raises:
        InvalidPredictionError: At the first violation; the message names the file.
    """
    for task in tasks:
        folder = Path(out_dir) / PREDICTIONS / task
        found = {path.name for path in folder.glob('*') if not path.name.endswith(TEMPORARY_SUFFIX)}
        check_names(f'{folder}', found, {f'{stem}.png' for stem in image_sizes})

        def check(item: tuple[str, tuple[int, int]], task: str = task, folder: Path = folder) -> None:
            path = folder / f'{item[0]}.png'
            try:
                decode_prediction(path.read_bytes(), task, item[1])
            except InvalidPredictionError as error:
                raise InvalidPredictionError(f'{path} {error}') from error

        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(check, image_sizes.items()))


def check_names(place: str, found: set[str], expected: set[str]) -> None:
    """Compares file names.

    Raises:
        InvalidPredictionError: If some are missing or superfluous.
    """
    for problem, names in (('is missing', expected - found), ('is not the prediction of a test image', found - expected)):
        if names:
            first = min(names, key=lambda name: stem_order(name.removesuffix('.png')))
            others = f' (and {len(names) - 1} more)' if len(names) > 1 else ''
            raise InvalidPredictionError(f'{place}: {first}{others} {problem}.')
