"""Predictions written to disk in the background of inference."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mtl_plugins.datasets.multitask.split_listing import TASKS
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.labels.depth_codec import Rounding, encode_depth
from mtl_plugins.submission.errors import SubmissionError
from mtl_plugins.submission.png_codec import encode_prediction
from mtl_plugins.submission.prediction_folder import PREDICTIONS
from mtl_plugins.utils.files import make_folder, replacing

_QUEUE_PER_THREAD = 8


class SubmissionWriter:
    """Writes ``<out_dir>/predictions/<task>/<stem>.png``, each file whole or not at all.

    Encoding runs in threads (NumPy and zlib release the interpreter lock) behind a bounded queue: ``add`` waits when the
    disk is slower than the model. An error in a thread is raised by the next ``add`` or by ``close``. Use as a context
    manager, or call ``close``.

    Args:
        out_dir: Folder that gets ``predictions/``; made if missing, existing files of the same name are replaced.
        tasks: ``'semseg'``, ``'depth'`` or both.
        rounding: Depth code of a prediction, see :func:`~mtl_plugins.labels.depth_codec.encode_depth`.
        num_threads: Number of encoding threads.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, out_dir: str | Path, tasks: Sequence[str], rounding: Rounding = 'nearest', num_threads: int = 2) -> None:
        if not tasks or set(tasks) - set(TASKS):
            raise ValueError(f'`tasks` should hold {" and/or ".join(TASKS)}. Found {tasks!r}.')
        if rounding not in ('nearest', 'truncate'):
            raise ValueError(f"`rounding` should be 'nearest' or 'truncate'. Found {rounding!r}.")
        if num_threads < 1:
            raise ValueError(f'`num_threads` should be at least 1. Found {num_threads}.')
        self.tasks = tuple(tasks)
        self.rounding = rounding
        self._folders = {task: Path(out_dir) / PREDICTIONS / task for task in tasks}
        for folder in self._folders.values():
            make_folder(folder, SubmissionError)
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix='submission')
        self._free_places = threading.BoundedSemaphore(num_threads * _QUEUE_PER_THREAD)
        self._error: BaseException | None = None

    def add(self, stem: str, semseg: np.ndarray | None = None, depth: np.ndarray | None = None) -> None:
        """Queues the predictions of one image. The arrays are handed over: do not change them afterwards.

        Args:
            stem: Name of the image without folder and extension.
            semseg: ``(H, W)`` uint8 class ids.
            depth: ``(H, W)`` float metres, finite; clamped to the range of the code.

        Raises:
            SubmissionError: If a task is missing, superfluous or of the wrong type or shape, or if an earlier image failed.
        """
        self._raise_error()
        maps = {task: values for task, values in (('semseg', semseg), ('depth', depth)) if values is not None}
        if set(maps) != set(self.tasks):
            raise SubmissionError(f'Image {stem}: there should be predictions for {sorted(self.tasks)}. Found {sorted(maps)}.')
        if len({values.shape for values in maps.values()}) > 1 or any(values.ndim != 2 for values in maps.values()):
            raise SubmissionError(
                f'Image {stem}: predictions should be maps of one size. Found {[values.shape for values in maps.values()]}.'
            )
        if not stem or Path(stem).name != stem:
            raise SubmissionError(f'Image {stem!r}: the name should have no folder.')
        self._free_places.acquire()
        self._pool.submit(self._write, stem, maps).add_done_callback(self._on_done)

    def close(self) -> None:
        """Waits for all files.

        Raises:
            SubmissionError: If an image failed.
        """
        self._pool.shutdown(wait=True)
        self._raise_error()

    def __enter__(self) -> 'SubmissionWriter':
        return self

    def __exit__(self, error_type: type | None, error: BaseException | None, traceback: object) -> None:
        if error_type is None:
            self.close()
        else:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _on_done(self, future: Future) -> None:
        self._free_places.release()
        if not future.cancelled() and self._error is None:
            self._error = future.exception()

    def _raise_error(self) -> None:
        if self._error is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            raise self._error

    def _write(self, stem: str, maps: dict[str, np.ndarray]) -> None:
        if self._error is not None:
            return
        for task, values in maps.items():
            try:
                codes = self._to_codes(task, values)
            except (TypeError, ValueError) as error:
                raise SubmissionError(f'Image {stem}: {error}') from error
            with replacing(self._folders[task] / f'{stem}.png', SubmissionError) as temporary:
                temporary.write_bytes(encode_prediction(codes, task))

    def _to_codes(self, task: str, values: np.ndarray) -> np.ndarray:
        if task == 'depth':
            return encode_depth(values, self.rounding)
        if values.dtype != np.uint8:
            raise TypeError(f'`semseg` should be uint8. Found {values.dtype}.')
        if values.max() >= len(CLASSES):
            raise ValueError(f'`semseg` should hold classes 0..{len(CLASSES) - 1}. Found {values.max()}.')
        return values
