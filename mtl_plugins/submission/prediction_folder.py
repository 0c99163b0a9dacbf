"""The folder of predictions: one file per test image and task."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from mtl_plugins.errors import InvalidPredictionError, SubmissionError
from mtl_plugins.labels.decoding import is_quarter_turn, read_orientation
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.utils.files import TEMPORARY_SUFFIX, natural_order

PREDICTIONS = 'predictions'


def find_image_sizes(paths: Iterable[str | Path]) -> dict[str, tuple[int, int]]:
    """Height and width of each upright image by its stem, from the headers of the files, in the given order.

    Raises:
        SubmissionError: If there is no image, one cannot be read, or two have the same name.
    """
    sizes = {}
    for path in map(Path, paths):
        try:
            with Image.open(path) as image:
                size = (image.height, image.width)
                # Predictions are of the upright image.
                if 'exif' in image.info and is_quarter_turn(read_orientation(str(path))):
                    size = size[::-1]
        except OSError as error:
            raise SubmissionError(f'Cannot read the image {path}: {error}.') from error
        if path.stem in sizes:
            raise SubmissionError(f'Test images should have different names. Found {path.stem} twice, last in {path}.')
        sizes[path.stem] = size
    if not sizes:
        raise SubmissionError('There should be at least one test image. Found none.')
    return sizes


def validate_predictions(
    out_dir: str | Path, labels: Mapping[str, LabelKind], image_sizes: Mapping[str, tuple[int, int]]
) -> None:
    """Check ``<out_dir>/predictions``: one file per image and task, of the right type, size and values, and nothing else.

    Raises:
        InvalidPredictionError: At the first violation; the message names the file.
    """
    for name, kind in labels.items():
        folder = Path(out_dir) / PREDICTIONS / name
        found = {path.name for path in folder.glob('*') if not path.name.endswith(TEMPORARY_SUFFIX)}
        check_names(f'{folder}', found, {f'{stem}.png' for stem in image_sizes})

        def check(item: tuple[str, tuple[int, int]], kind: LabelKind = kind, folder: Path = folder) -> None:
            path = folder / f'{item[0]}.png'
            try:
                kind.from_png(path.read_bytes(), item[1])
            except InvalidPredictionError as error:
                raise InvalidPredictionError(f'{path} {error}') from error

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(check, image_sizes.items()))


def check_names(place: str, found: set[str], expected: set[str]) -> None:
    """Raise `InvalidPredictionError` if file names are missing or superfluous."""
    for problem, names in (('is missing', expected - found), ('is not the prediction of a test image', found - expected)):
        if names:
            first = min(names, key=lambda name: natural_order(name.removesuffix('.png')))
            others = f' (and {len(names) - 1} more)' if len(names) > 1 else ''
            raise InvalidPredictionError(f'{place}: {first}{others} {problem}.')
