"""Predictions written to disk in the background of inference."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mtl_plugins.errors import ArgumentError, SubmissionError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.submission.archive import PREDICTIONS
from mtl_plugins.utils.files import make_folder, replacing

_THREADS, _WAITING = 2, 16


class SubmissionWriter:
    """Writes ``<out_dir>/predictions/<label>/<stem>.png``, each file whole or not at all.

    Encoding runs in threads (NumPy and zlib release the interpreter lock) behind a bounded queue: ``add`` waits when the
    disk is slower than the model. An error in a thread is raised by a later ``add`` or by ``close``. Use as a context manager,
    or call ``close``.

    Args:
        out_dir: Folder that gets ``predictions/``; made if missing, existing files of the same name are replaced.
        labels: The kinds of what is predicted, by name.
        rounding: As in :meth:`LabelKind.encode`.
    """

    def __init__(self, out_dir: str | Path, labels: Mapping[str, LabelKind], rounding: str = 'nearest') -> None:
        if not labels:
            raise ArgumentError('`labels` is empty: it should hold at least one kind of label.')
        if rounding not in ('nearest', 'truncate'):
            raise ArgumentError(f"`rounding` should be 'nearest' or 'truncate'. Found {rounding!r}.")
        self.labels = dict(labels)
        self.rounding = rounding
        self._channels = {name: kind.blank((1, 1)).shape[2:] for name, kind in labels.items()}
        self._folders = {name: Path(out_dir) / PREDICTIONS / name for name in labels}
        for folder in self._folders.values():
            make_folder(folder, SubmissionError)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix='submission')
        self._pending: deque[Future] = deque()

    def add(self, stem: str, predictions: Mapping[str, np.ndarray]) -> None:
        """Queue the predictions of one image. The arrays are handed over: do not change them afterwards.

        Args:
            stem: Name of the image without folder and extension.
            predictions: The values of each label, ``(H, W)`` or ``(H, W, C)``: class ids uint8, finite metres, ...

        Raises:
            SubmissionError: If a task is missing, superfluous or of the wrong type or shape, or if an earlier image failed.
        """
        if set(predictions) != set(self.labels):
            raise SubmissionError(
                f'Image {stem}: there should be predictions for {sorted(self.labels)}. Found {sorted(predictions)}.'
            )
        shapes = [values.shape for values in predictions.values()]
        if len({shape[:2] for shape in shapes}) > 1 or any(
            predictions[name].shape[2:] != channels or predictions[name].ndim < 2 for name, channels in self._channels.items()
        ):
            raise SubmissionError(f'Image {stem}: predictions should be maps of one size. Found {shapes}.')
        if not stem or Path(stem).name != stem:
            raise SubmissionError(f'Image {stem!r}: the name should have no folder.')
        while len(self._pending) >= _WAITING or (self._pending and self._pending[0].done()):
            self._pending[0].result()
            self._pending.popleft()
        self._pending.append(self._pool.submit(self._write, stem, dict(predictions)))

    def close(self) -> None:
        """Wait for all files; raise `SubmissionError` if an image failed."""
        self._pool.shutdown()
        for future in self._pending:
            future.result()

    def __enter__(self) -> 'SubmissionWriter':
        return self

    def __exit__(self, error_type: type | None, error: BaseException | None, traceback: object) -> None:
        if error_type is None:
            self.close()
        else:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _write(self, stem: str, predictions: dict[str, np.ndarray]) -> None:
        for name, values in predictions.items():
            kind = self.labels[name]
            try:
                codes = kind.encode(values, self.rounding)
            except (TypeError, ValueError) as error:
                raise SubmissionError(f'Image {stem}: {error}') from error
            with replacing(self._folders[name] / f'{stem}.png', SubmissionError) as temporary:
                temporary.write_bytes(kind.to_png(codes))
