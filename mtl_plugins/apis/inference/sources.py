"""Images from files, folders, patterns, lists, videos, cameras, arrays and generators of any of these, one after the other."""

import glob
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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

OnError = Callable[[str], None]


@dataclass(frozen=True)
class Stream:
    """The video or camera that a frame is of: its name, and how many frames it has in a second."""

    name: str
    fps: float


@dataclass(frozen=True)
class Frame:
    """An image.

    Attributes:
        name: For files that are made of it; all of one call differ.
        image: ``(H, W, 3)`` uint8 RGB.
        stream: Where it comes from, if that is a video or a camera.
    """

    name: str
    image: np.ndarray
    stream: Stream | None = None


@dataclass(frozen=True)
class _Item:
    """An image that may still have to be read."""

    name: str
    content: Any
    stream: Stream | None = None


def read_frames(
    inputs: Any, on_error: OnError | None = None, max_frames: int | None = None, stop: Callable[[], bool] | None = None
) -> Iterator[Frame]:
    """The images of inputs, decoded by threads that are at most eight images ahead.

    Args:
        inputs: A path (an image, a folder, a pattern such as ``'photos/*.jpg'``, a list of paths in a ``.txt`` file, a video),
            ``'camera:0'``, an array ``(H, W, 3)`` or ``(H, W)`` uint8, RGB or grey, a batch of them ``(N, H, W, 3)``, a picture
            of PIL, or an iterable of any of these.
        on_error: Gets a sentence for each file that cannot be used, which is then left out; None raises it.
        max_frames: Of each video or camera.
        stop: Asked before each frame of a video or camera; True ends it there.

    Raises:
        DataNotFoundError: If a path does not exist or holds nothing, or a camera cannot be opened.
        ConfigError: If an input is something else.
        CorruptFileError: If a file cannot be used and there is no ``on_error``.
    """
    for frame in map_in_order(_load, _Lister(on_error, max_frames, stop).items(inputs), DECODERS):
        if isinstance(frame, Frame):
            yield frame
        elif on_error is None:
            raise frame
        else:
            on_error(str(frame))


def _load(item: _Item) -> Frame | DataError:
    try:
        image = item.content
        if isinstance(image, Path):
            image = decode_photograph(read_bytes(str(image)), str(image))
        return Frame(item.name, image, item.stream)
    except DataError as error:
        return error


class _Lister:
    """Goes through inputs and gives each image a name of its own."""

    def __init__(self, on_error: OnError | None, max_frames: int | None, stop: Callable[[], bool] | None) -> None:
        self.on_error = on_error
        self.max_frames = sys.maxsize if max_frames is None else max_frames
        self.stop = stop or (lambda: False)
        self._names: dict[str, int] = {}
        self._arrays = itertools.count()

    def items(self, inputs: Any) -> Iterator[_Item]:
        if isinstance(inputs, (str, Path)):
            yield from self._items_of_path(str(inputs))
        elif isinstance(inputs, np.ndarray):
            yield from self._items_of_array(inputs)
        elif isinstance(inputs, Image.Image):
            image = np.asarray(ImageOps.exif_transpose(inputs).convert('RGB'))
            yield from self._items_of_array(image)
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
            yield _Item(f'image_{next(self._arrays):06d}', np.stack([image] * 3, axis=-1) if image.ndim == 2 else image)

    def _items_of_path(self, text: str) -> Iterator[_Item]:
        camera = CAMERA.fullmatch(text)
        if camera:
            yield from self._items_of_stream(int(camera[1]), f'camera{camera[1]}')
        else:
            for path in find_files(text):
                yield from self._items_of_file(path)

    def _items_of_file(self, path: Path) -> Iterator[_Item]:
        if path.suffix.lower() not in VIDEOS:
            yield _Item(self._name(path.stem), path)
            return
        try:
            yield from self._items_of_stream(path, path.stem)
        except DataError as error:
            if self.on_error is None:
                raise
            self.on_error(str(error))

    def _items_of_stream(self, source: Path | int, name: str) -> Iterator[_Item]:
        capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        try:
            if not capture.isOpened():
                if isinstance(source, int):
                    raise DataNotFoundError(f'The camera {source} cannot be opened. Check that it is there and not in use.')
                raise CorruptFileError(
                    f"The video '{source}' cannot be opened: it is damaged, or of a kind OpenCV does not read."
                )
            name = self._name(name)
            fps = capture.get(cv2.CAP_PROP_FPS)
            stream = Stream(name, fps if 0 < fps <= 1000 else FRAMES_PER_SECOND)
            number = 0
            while number < self.max_frames and not self.stop():
                found, image = capture.read()
                if not found:
                    break
                yield _Item(f'{name}_{number:06d}', cv2.cvtColor(image, cv2.COLOR_BGR2RGB), stream)
                number += 1
            if not number and not self.stop():
                raise CorruptFileError(f"'{source}' should have frames. None could be read.")
        finally:
            capture.release()

    def _name(self, stem: str) -> str:
        """The stem, with a number from its second use on."""
        self._names[stem] = self._names.get(stem, 0) + 1
        return stem if self._names[stem] == 1 else self._name(f'{stem}_{self._names[stem]}')


def find_files(text: str) -> list[Path]:
    """The files that a path stands for: a folder's, those that fit a pattern, those of a list, or itself.

    Those of folders and patterns are in natural order, 2 before 10; hidden ones and subfolders are left out.

    Raises:
        DataNotFoundError: If there is none.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith('.')]
        expected = f"The folder '{path}' should hold images."
    elif path.is_file():
        if path.suffix.lower() not in LISTS:
            return [path]
        return _read_list(path)
    elif glob.has_magic(text):
        files = [file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file()]
        expected = f"The pattern '{text}' should fit images."
    else:
        raise DataNotFoundError(f"The input '{text}' does not exist. Give an image, a folder, a pattern, a list or a video.")
    if not files:
        raise DataNotFoundError(f'{expected} Found no file.')
    return sorted(files, key=lambda file: natural_order(str(file)))


def _read_list(path: Path) -> list[Path]:
    """The files that a text file names, one a line, from its folder; ``#`` starts a comment line."""
    files = [path.parent / Path(line).expanduser() for line in read_lines(path, 'list') if not line.startswith('#')]
    if not files:
        raise DataNotFoundError(f"The list '{path}' should have a path in each line. Found only comments.")
    return files


def count_frames(paths: Iterable[str], max_frames: int | None = None) -> int | None:
    """How many images :func:`read_frames` finds at paths, broken ones included; None if a camera or a video does not say.

    Raises:
        DataNotFoundError: If a path does not exist or holds nothing.
    """
    total: int | None = 0
    for text in paths:
        camera = CAMERA.fullmatch(text) is not None
        for path in [] if camera else find_files(text):
            length = 1
            if path.suffix.lower() in VIDEOS:
                capture = cv2.VideoCapture(str(path))
                length = min(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), max_frames or sys.maxsize)
                capture.release()
            total = None if total is None or length <= 0 else total + length
        if camera:
            total = None if total is None or max_frames is None else total + max_frames
    return total
