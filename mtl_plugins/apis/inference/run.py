"""Inputs to files, with a bar that tells how fast."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtl_plugins.apis.inference.inferencer import MultiTaskInferencer
from mtl_plugins.apis.inference.output import Pictures, PredictionWriter
from mtl_plugins.apis.inference.prediction import Prediction
from mtl_plugins.apis.inference.sources import CAMERA, count_frames
from mtl_plugins.utils.data_files import printable
from mtl_plugins.utils.files import shorten_paths
from mtl_plugins.utils.threads import map_in_order

WRITERS = 2


def run(
    inferencer: MultiTaskInferencer,
    writer: PredictionWriter,
    inputs: Sequence[str],
    console: Console,
    max_frames: int | None = None,
) -> int:
    """Predict all images of inputs and write the files, which threads do beside the network.

    Args:
        inferencer: The model.
        writer: Where files go.
        inputs: Paths and cameras, see :func:`read_frames`.
        console: For the progress and the last line.
        max_frames: Of each video or camera.

    Returns:
        The number of files that could not be used; each has its sentence on standard error.

    Raises:
        UserError: If an input does not exist, or the disk refuses.
    """
    total, skipped, done, start = count_frames(inputs, max_frames), 0, 0, time.perf_counter()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[rate]}'), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress, writer:
        bar = progress.add_task('images', total=total, rate='')

        def skip(sentence: str) -> None:
            nonlocal skipped
            skipped += 1
            progress.advance(bar)
            print(shorten_paths(f'skipped: {printable(sentence)}'), file=sys.stderr)

        def write(prediction: Prediction) -> tuple[Prediction, Pictures]:
            return prediction, writer.write(prediction)

        with _interrupt_ends(any(CAMERA.fullmatch(each) for each in inputs)) as stop:
            predictions = inferencer.stream(inputs, on_error=skip, max_frames=max_frames, stop=stop)
            for prediction, frames in map_in_order(write, predictions, WRITERS):
                writer.add_frame(prediction, frames)
                done += 1
                progress.update(bar, advance=1, rate=f'{_rate(done, start):.1f} images/s')
    found = f'{done} image{"" if done == 1 else "s"}'
    left = f'; {skipped} file{"" if skipped == 1 else "s"} could not be used' if skipped else ''
    seconds = time.perf_counter() - start
    console.print(
        shorten_paths(
            f'Predicted {found} in {seconds:.1f} s ({_rate(done, start):.1f} images/s) into {writer.out.absolute()}{left}.'
        ),
        highlight=False,
        soft_wrap=True,
    )
    return skipped


@contextmanager
def _interrupt_ends(has_camera: bool) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the usual end of a camera, whose frames are still written. A second one is an error."""
    pressed = False

    def press(number: int, frame: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press) if has_camera else None
    try:
        yield lambda: pressed
    finally:
        if has_camera:
            signal.signal(signal.SIGINT, before)


def _rate(done: int, start: float) -> float:
    return done / max(time.perf_counter() - start, 1e-9)
