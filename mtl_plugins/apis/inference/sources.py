"""Images from files, folders, patterns, lists, videos, cameras, arrays and generators of any of these, one after the other."""

import glob
import itertools
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from mtl_plugins.errors import ConfigError, CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.labels.decoding import decode_photograph, read_bytes
from mtl_plugins.utils.files import natural_order, read_lines
from mtl_plugins.utils.threads import map_in_order

VIDEOS = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv')
LISTS = ('.txt', '.lst')
CAMERA = re.compile(r'camera:(\d+)')
DECODERS = 2
# Of a camera or a file that does not say.
FRAMES_PER_SECOND = 25.0
# The list of results and their files, which marks a folder of results.
RESULTS = 'results.csv'
_FRAME = re.compile(r'(.*)_\d{6,}')


@dataclass(frozen=True)
class Stream:
    """A video or camera: its name, its frames per second, and its path."""

    name: str
    fps: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Frame:
    """An image.

    Attributes:
        name: The path of its file within the input, without the suffix, see :func:`read_frames`; for an array or a frame of a
            video a name with its number. All of one call differ.
        image: ``(H, W, 3)`` uint8 RGB, as the model sees it: upright, and resized if it was to be.
        original_size: Height and width before it was resized.
        stream: The video or camera that it is a frame of.
        source: The path of its file; empty for an array.
    """

    name: str
    image: np.ndarray = field(repr=False)
    original_size: tuple[int, int]
    stream: Stream | None = None
    source: str = ''


# A name, the path or the pixels of an image, and where it comes from.
_Item = tuple[str, Any, Stream | None]


def read_frames(
    inputs: Any,
    on_error: Callable[[str], None] | None = None,
    max_frames: int | None = None,
    *,
    check: Callable[[int, int], Any] | None = None,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    workers: int = DECODERS,
) -> Iterator[Frame]:
    """Give the images of inputs, decoded by threads that are at most eight images ahead.

    The name of an image is its path within what was given (a folder, the folder of a list, the fixed part of a pattern, the
    folder that single files share) without the suffix. Where that would be the name of two files, it is the path within the
    folder that all inputs share, and where it still would, the suffix stays.

    Args:
        inputs: A path (an image, a folder, a pattern such as ``'photos/*.jpg'``, a list of paths in a ``.txt`` file, a video),
            ``'camera:0'``, an array ``(H, W, 3)`` or ``(H, W)`` uint8, RGB or grey, a batch of them ``(N, H, W, 3)``, a picture
            of PIL, or an iterable of any of these.
        on_error: Gets a sentence for each file that cannot be used, which is then left out; None raises it.
        max_frames: Of each video or camera.
        check: Called with the height and width of a file before it is decoded; it raises `DataError` if they are too large.
        prepare: Changes each image after it is read, in the same thread.
        workers: Threads; 0 reads each image when it is asked for.

    Raises:
        DataNotFoundError: If a path does not exist or has no files, or a camera cannot be opened.
        ConfigError: If an input is something else.
        DataError: If a file cannot be used and there is no ``on_error``.
    """

    def load(item: _Item) -> Frame | DataError:
        name, image, stream = item
        source = stream.source if stream else ''
        try:
            if isinstance(image, Path):
                source = str(image)
                image = decode_photograph(read_bytes(source), source, check=check)
            size = image.shape[:2]
            image = prepare(image) if prepare else image
            return Frame(name=name, image=image, original_size=size, stream=stream, source=source)
        except DataError as error:
            return error if source in str(error) else DataError(f"The image '{source}' cannot be used: {error}")

    items = _Lister(on_error, max_frames, check).items(inputs)
    for frame in map_in_order(load, items, workers) if workers else map(load, items):
        if isinstance(frame, Frame):
            yield frame
        elif on_error is None:
            raise frame
        else:
            on_error(str(frame))


class _Lister:
    """Goes through inputs and gives each image a name of its own."""

    def __init__(self, on_error: Callable[[str], None] | None, max_frames: int | None, check: Any) -> None:
        self.on_error, self.check = on_error, check
        self.max_frames = sys.maxsize if max_frames is None else max_frames
        self._arrays = itertools.count()
        self._names: set[str] = set()

    def items(self, inputs: Any) -> Iterator[_Item]:
        if isinstance(inputs, (str, Path)):
            inputs = [inputs]
        if isinstance(inputs, Image.Image):
            inputs = np.asarray(ImageOps.exif_transpose(inputs).convert('RGB'))
        if isinstance(inputs, np.ndarray):
            yield from self._items_of_array(inputs)
        elif isinstance(inputs, (list, tuple)) and all(isinstance(each, (str, Path)) for each in inputs):
            yield from self._items_of_paths([str(each) for each in inputs])
        elif isinstance(inputs, Iterable) and not isinstance(inputs, (bytes, dict)):
            for each in inputs:
                yield from self.items(each)
        else:
            raise ConfigError(
                f'An input should be a path, an array (H, W, 3) of uint8, or an iterable of them. Found {type(inputs).__name__}.'
            )

    def _items_of_array(self, array: np.ndarray) -> Iterator[_Item]:
        if array.dtype != np.uint8 or array.ndim not in (2, 3, 4) or (array.ndim > 2 and array.shape[-1] != 3) or not array.size:
            raise ConfigError(
                f'An image should be an array (H, W, 3), RGB, or (H, W), grey, of uint8. Found {array.dtype} {array.shape}.'
            )
        for image in array if array.ndim == 4 else [array]:
            name = self._name(f'image_{next(self._arrays):06d}')
            yield name, np.stack([image] * 3, axis=-1) if image.ndim == 2 else image, None

    def _items_of_paths(self, texts: Sequence[str]) -> Iterator[_Item]:
        for source, name in name_inputs(texts):
            if isinstance(source, Path) and source.suffix.lower() not in VIDEOS:
                yield self._name(name), source, None
                continue
            try:
                yield from self._items_of_stream(source, name)
            except DataNotFoundError:
                raise
            except DataError as error:
                if self.on_error is None:
                    raise
                self.on_error(str(error))

    def _items_of_stream(self, source: Path | int, name: str) -> Iterator[_Item]:
        is_camera = isinstance(source, int)
        where = f'camera:{source}' if is_camera else str(source)
        capture = cv2.VideoCapture(source if is_camera else where)
        try:
            if not capture.isOpened():
                if is_camera:
                    raise DataNotFoundError(f'The camera {source} cannot be opened. Check that it is there and not in use.')
                raise CorruptFileError(
                    f"The video '{source}' cannot be opened: it is damaged, or of a kind OpenCV does not read."
                )
            size = [int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)]
            try:
                if self.check is not None and all(size):
                    self.check(*size)
            except DataError as error:
                raise CorruptFileError(f"The video '{source}' cannot be used. {error}") from error
            name, fps = self._name(name), capture.get(cv2.CAP_PROP_FPS)
            stream = Stream(name, fps if 0 < fps <= 1000 else FRAMES_PER_SECOND, where)
            for number in range(self.max_frames):
                found, image = capture.read()
                if not found and not number:
                    raise CorruptFileError(f"'{source}' should have frames. None could be read.")
                if not found:
                    break
                yield f'{name}_{number:06d}', cv2.cvtColor(image, cv2.COLOR_BGR2RGB), stream
        finally:
            capture.release()

    def _name(self, name: str) -> str:
        """Return the name, with a number if this call has used it before: for a file given twice, or one of a generator."""
        free = itertools.chain([name], (f'{name} ({number})' for number in itertools.count(2)))
        name = next(each for each in free if each not in self._names)
        self._names.add(name)
        return name


def name_inputs(texts: Sequence[str]) -> list[tuple[Path | int, str]]:
    """Find the files and cameras (their numbers) of inputs, and name them as :func:`read_frames` says."""
    cameras: set[str] = set()
    found: list[tuple[Path | int, Path | None]] = []
    for text in texts:
        camera = CAMERA.fullmatch(text)
        if camera:
            cameras.add(f'camera{int(camera[1])}')
        files, base = ([int(camera[1])], None) if camera else find_files(text)
        found += [(file, base) for file in files]
    paths = {file: os.path.abspath(file) for file, _ in found if isinstance(file, Path)}
    # A shell gives the files of a pattern one by one.
    shared = _common_folder([paths[file] for file, base in found if file in paths and base is None])
    bases: dict[str, str] = {}
    for file, base in found:
        if file in paths:
            bases.setdefault(paths[file], shared if base is None else os.path.abspath(base))
    names = _names_within(bases, cameras)
    return [(file, names[paths[file]] if file in paths else f'camera{file}') for file, _ in found]


def _names_within(bases: Mapping[str, str], cameras: Collection[str]) -> dict[str, str]:
    """Return a name for each of some absolute paths, given the folders within which their paths are their names."""
    full = {path: Path(os.path.relpath(path, base)) for path, base in bases.items()}
    folders: dict[Path, str] = {}
    if any(folders.setdefault(name.with_suffix(''), bases[path]) != bases[path] for path, name in full.items()):
        base = _common_folder(list(bases))
        full = {path: Path(os.path.relpath(path, base)) for path in bases}
    names = {path: name.with_suffix('').as_posix() for path, name in full.items()}
    while True:
        uses = Counter([*names.values(), *cameras])
        streams = {*cameras, *(name for path, name in names.items() if Path(path).suffix.lower() in VIDEOS)}
        # Frames of a video have its name and a number.
        double = [
            path
            for path, name in names.items()
            if name != full[path].as_posix()
            and (uses[name] > 1 or ((frame := _FRAME.fullmatch(name)) is not None and frame[1] in streams))
        ]
        if not double:
            return names
        names |= {path: full[path].as_posix() for path in double}


def _common_folder(paths: Sequence[str]) -> str:
    return os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else os.curdir


def find_files(text: str) -> tuple[list[Path], Path | None]:
    """Find the files of a path: those of a folder and its subfolders, of a pattern or a list, or itself.

    Those of folders and patterns are in natural order, 2 before 10. Hidden ones are left out, and so are subfolders that hold
    results of inference. Gives the files, and the folder within which their paths are their names; None for a single file.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        files, base = _walk(path), path
        problem = f"The folder '{path}' has no images."
    elif path.is_file():
        return _read_list(path) if path.suffix.lower() in LISTS else ([path], None)
    elif glob.has_magic(text):
        files = [file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file()]
        base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        problem = f"No file fits the pattern '{text}'."
    else:
        raise DataNotFoundError(f"The input '{text}' does not exist. Give an image, a folder, a pattern, a list or a video.")
    if not files:
        raise DataNotFoundError(f'{problem} Check the path and the suffixes of the files.')
    return sorted(files, key=lambda file: natural_order(str(file))), base


def _walk(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, through links but in no circle."""
    files, seen = [], set()
    for where, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen or (RESULTS in names and Path(where) != folder):
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        files += [file for name in names if not name.startswith('.') and (file := Path(where, name)).is_file()]
    return files


def _read_list(path: Path) -> tuple[list[Path], Path]:
    """Return the files that a text file names, one a line, from its folder; ``#`` starts a comment line."""
    files = [path.parent / Path(line).expanduser() for line in read_lines(path, 'list') if not line.startswith('#')]
    if not files:
        raise DataNotFoundError(f"The list '{path}' should have a path in each line. Found only comments.")
    folder = os.path.abspath(path.parent)
    common = _common_folder([os.path.abspath(file) for file in files])
    return files, Path(folder if os.path.commonpath([folder, common]) == folder else common)


def count_images(paths: Sequence[str]) -> int | None:
    """Return the number of images at paths, broken ones included; None if there are cameras or videos."""
    files = [file for file, _ in name_inputs(paths)]
    are_images = all(isinstance(file, Path) and file.suffix.lower() not in VIDEOS for file in files)
    return len(files) if are_images else None
