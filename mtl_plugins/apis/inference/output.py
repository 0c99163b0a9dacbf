"""Predictions as files."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mtl_plugins.apis.inference.inferencer import Prediction
from mtl_plugins.apis.inference.sources import RESULTS
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.utils.files import describe_os_error, make_folder, replacing, temporary_beside
from mtl_plugins.visualization.point_cloud import ASSUMED_ANGLE, Intrinsics, encode_ply, make_point_cloud, render_viewer
from mtl_plugins.visualization.prediction_grid import colour_over

KINDS = ('pictures', 'side-by-side', 'png', 'npy', 'points')
_CODEC = 'mp4v'

Pictures = dict[Path, np.ndarray]


class PredictionWriter:
    """Writes files of each prediction below a folder, each file whole or not at all.

    * ``pictures/<label>/<name>.png``: the label over the image, or in colours, with legend or bar.
    * ``side-by-side/<name>.png``: the image and all labels.
    * ``png/<label>/<name>.png``: the values as :meth:`LabelKind.to_raw_png` stores them: class ids, millimetres, ...
    * ``npy/<label>/<name>.npy``: the values as they are; ``npy/<label>_probabilities/<name>.npy`` ``(H, W, classes)`` float16.
    * ``points/<name>.ply`` and ``.html``: points in space, of a model that predicts depth.
    * ``results.csv``: the file of each name. Its rows of earlier runs stay.

    Pictures of a video or a camera become videos, ``<name>.mp4``. Use as a context manager: :meth:`write` may be called by
    several threads, :meth:`add_frame` takes what it gives in order, and leaving completes the videos and the list.

    Args:
        out: The folder, made if missing. Files of the same names are replaced.
        labels: The kinds of the predicted labels by name.
        save: Some of ``'pictures'``, ``'side-by-side'``, ``'png'``, ``'npy'``, ``'points'``.
        intrinsics: Of the camera, for the size of the original images; by default guessed from ``angle``.
        angle: Horizontal angle of view in degrees.
        max_depth: Points farther away, in metres, are left out.

    Raises:
        ConfigError: If ``save`` names something else, or points are asked for where no depth is predicted.
        ValueError: If ``angle`` is out of its range.
    """

    def __init__(
        self,
        out: str | Path,
        labels: Mapping[str, LabelKind],
        save: Sequence[str] = ('pictures', 'side-by-side'),
        *,
        intrinsics: Intrinsics | None = None,
        angle: float = ASSUMED_ANGLE,
        max_depth: float = 80.0,
    ) -> None:
        unknown = [name for name in save if name not in KINDS]
        if unknown or not save:
            raise ConfigError(f'`save` should name some of {", ".join(KINDS)}. Found {unknown[0] if unknown else "none"}.')
        self.out, self.labels, self.save = Path(out), labels, tuple(save)
        self.depth_name = next((name for name, kind in labels.items() if kind.is_depth), None)
        if 'points' in save and self.depth_name is None:
            raise ConfigError(
                f'`save` should leave out points for a model without depth. Found one that predicts {list(labels)}.'
            )
        if not max_depth > 0:
            raise ConfigError(f'`max_depth` should be positive. Found {max_depth}.')
        self.intrinsics, self.angle, self.max_depth = intrinsics, angle, max_depth
        Intrinsics.from_angle((1, 1), angle)
        self._videos: dict[Path, _Video] = {}
        self._sources: dict[str, str] = {}
        make_folder(self.out)

    def write(self, prediction: Prediction) -> Pictures:
        """Write the files of one prediction; gives the pictures that are frames of videos, by the path of the video."""
        frames: Pictures = {}
        pictures: Pictures = {}
        if 'pictures' in self.save:
            pictures |= {Path('pictures', name): picture for name, picture in prediction.pictures().items()}
        if 'side-by-side' in self.save:
            pictures[Path('side-by-side')] = prediction.side_by_side()
        for folder, picture in pictures.items():
            if prediction.stream is None:
                self._write(folder / f'{prediction.name}.png', encode_png(picture))
            else:
                frames[self.out / folder / f'{prediction.stream.name}.mp4'] = picture
        if 'png' in self.save:
            for name, values in prediction.values.items():
                self._write(Path('png', name, f'{prediction.name}.png'), self.labels[name].to_raw_png(values))
        if 'npy' in self.save:
            likely = {f'{name}_probabilities': each.astype(np.float16) for name, each in prediction.probabilities.items()}
            for name, values in {**prediction.values, **likely}.items():
                self._write(Path('npy', name, f'{prediction.name}.npy'), values)
        if 'points' in self.save:
            self._write_points(prediction)
        return frames

    def _write(self, name: Path, content: bytes | np.ndarray) -> None:
        make_folder((self.out / name).parent)
        with replacing(self.out / name) as temporary, temporary.open('wb') as file:
            np.save(file, content) if isinstance(content, np.ndarray) else file.write(content)

    def _write_points(self, prediction: Prediction) -> None:
        size, own = prediction.original_size, prediction.image.shape[:2]
        camera = (self.intrinsics or Intrinsics.from_angle(size, self.angle)).resized(size, own)
        colours = {'image': prediction.image}
        for name, values in prediction.values.items():
            colours[name] = colour_over(prediction.image, values, self.labels[name])
        cloud = make_point_cloud(prediction.values[self.depth_name], colours, camera, self.max_depth)
        how = f'assumed from an angle of view of {self.angle:g} degrees' if camera.is_assumed else 'given'
        note = f'Metres; up to {self.max_depth:g} m. Focal length {camera.fx:.1f} pixels, {how}.'
        self._write(Path('points', f'{prediction.name}.ply'), encode_ply(cloud, f'x right, y up, z towards the camera. {note}'))
        if len(cloud.points):
            self._write(Path('points', f'{prediction.name}.html'), render_viewer(cloud, prediction.name, note).encode())

    def add_frame(self, prediction: Prediction, frames: Pictures) -> None:
        """Append the pictures of a frame to their videos. One video is written at a time: the next one completes it."""
        if prediction.source:
            self._sources[(prediction.stream or prediction).name] = prediction.source
        if any(path not in self._videos for path in frames):
            self.close()
        for path, picture in frames.items():
            if path not in self._videos:
                make_folder(path.parent)
                self._videos[path] = _Video(path, prediction.stream.fps, picture.shape[:2])
            self._videos[path].add(picture)

    def close(self) -> None:
        """Complete the videos."""
        while self._videos:
            self._videos.popitem()[1].finish()

    def __enter__(self) -> 'PredictionWriter':
        return self

    def __exit__(self, error_type: type | None, error: BaseException | None, traceback: object) -> None:
        if error_type is None:
            self.close()
        for video in self._videos.values():
            video.discard()
        if self._sources:
            self._write_list()

    def _write_list(self) -> None:
        path = self.out / RESULTS
        # Names of files may have bytes that are no text.
        text = dict(encoding='utf-8', errors='surrogateescape', newline='')
        rows = {'name': 'file'}
        if path.is_file():
            with path.open(**text) as file:
                rows |= dict(row for row in csv.reader(file) if len(row) == 2)
        with replacing(path) as temporary, temporary.open('w', **text) as file:
            csv.writer(file, lineterminator='\n').writerows({**rows, **self._sources}.items())


class _Video:
    """An MP4 file that takes its name when it is complete."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self.path = path
        # The codec halves the resolution of colours.
        self.size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        # The suffix tells OpenCV the format.
        self.temporary = temporary_beside(path, '.mp4')
        self.writer = cv2.VideoWriter(str(self.temporary), cv2.VideoWriter_fourcc(*_CODEC), fps, self.size[::-1])
        if not self.writer.isOpened():
            raise UserError(f'The video {path} cannot be written: this OpenCV has no encoder for it, or the disk refuses.')

    def add(self, picture: np.ndarray) -> None:
        bottom, right = self.size[0] - picture.shape[0], self.size[1] - picture.shape[1]
        self.writer.write(cv2.cvtColor(np.pad(picture, ((0, bottom), (0, right), (0, 0)), 'edge'), cv2.COLOR_RGB2BGR))

    def finish(self) -> None:
        self.writer.release()
        # OpenCV does not say that the disk is full.
        if not is_whole_mp4(self.temporary):
            self.discard()
            raise UserError(f'The video {self.path} could not be written to its end: is the disk full? Nothing was written.')
        try:
            os.replace(self.temporary, self.path)
        except OSError as error:
            raise UserError(describe_os_error(error, self.path)) from error

    def discard(self) -> None:
        self.writer.release()
        self.temporary.unlink(missing_ok=True)


def is_whole_mp4(path: Path) -> bool:
    """Return True if an MP4 file has its index and ends where its last part ends."""
    names, position = set(), 0
    with path.open('rb') as file:
        while len(header := file.read(8)) == 8:
            names.add(header[4:])
            # Parts of 4 GiB and more have their size behind the name.
            size = int.from_bytes(header[:4], 'big')
            position += int.from_bytes(file.read(8), 'big') if size == 1 else size
            if size == 0 or position <= file.tell() - 8:
                return False
            file.seek(position)
    return b'moov' in names and position == path.stat().st_size


def encode_png(picture: np.ndarray) -> bytes:
    """Return the PNG file of a picture ``(H, W, 3)`` uint8 RGB."""
    return cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
