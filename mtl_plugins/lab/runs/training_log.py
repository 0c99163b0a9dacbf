"""The log of a training, ``<timestamp>/vis_data/scalars.json``, and its duration."""

import contextlib
import json
import math
from pathlib import Path

import numpy as np

from mtl_plugins.errors import CorruptFileError, DataNotFoundError
from mtl_plugins.records.record import read_record_file
from mtl_plugins.utils.data_files import read_bytes, shorten

PATTERN = '*/vis_data/scalars.json'
MOST_BYTES = 2**30
_LARGEST = 2**63


def read_scalars(run: str | Path) -> list[dict[str, float]]:
    """Return the lines of the training, each with ``iter``, in its order; none if nothing was logged.

    A resumed run has several files: what an earlier one says of iterations that a later one did again is left out. So are lines
    of validations, and a last line that was cut off.

    Raises:
        CorruptFileError: If a file holds something else.
    """
    rows: list[dict[str, float]] = []
    for path in sorted(Path(run).glob(PATTERN)):
        try:
            lines = read_bytes(path, MOST_BYTES).decode().splitlines()
        except (OSError, ValueError) as error:
            raise CorruptFileError(f"The log '{path}' cannot be read: {shorten(error)}.") from error
        for number, line in enumerate(lines, start=1):
            try:
                # What is no number is of no use here, and neither is one that no float holds.
                found = json.loads(line).items()
                row = {
                    key: value for key, value in found if type(value) is float or (type(value) is int and abs(value) < _LARGEST)
                }
            except (ValueError, AttributeError, RecursionError) as error:
                if number == len(lines):
                    break
                raise CorruptFileError(f"Line {number} of '{path}' should be a JSON object. Found {shorten(line)}.") from error
            if math.isfinite(row.get('iter', math.nan)):
                while rows and rows[-1]['iter'] >= row['iter']:
                    rows.pop()
                rows.append(row)
    return rows


def wall_hours(run: str | Path, iterations: np.ndarray) -> np.ndarray:
    """Return the hours that a run took until some iterations.

    By its record, between whose validations time passes evenly: the wall time of all sessions, validations included. A work dir
    without one tells the seconds of single iterations only: then it is their median times the iterations, of training alone.

    Raises:
        DataNotFoundError: If the run tells no times.
    """
    iterations = np.asarray(iterations, np.float64)
    with contextlib.suppress(DataNotFoundError):
        known = [row for row in read_record_file(Path(run)).get('validations') or [] if row.get('seconds') and row.get('iter')]
        if known:
            done, seconds = (np.array([0.0, *(row[key] for row in known)]) for key in ('iter', 'seconds'))
            later = np.maximum(iterations - done[-1], 0) * (seconds[-1] / done[-1])
            return (np.interp(iterations, done, seconds) + later) / 3600
    times = [row['time'] for row in read_scalars(run) if row.get('time')]
    if not times:
        raise DataNotFoundError(
            f"'{run}' has neither validations in run.json nor `time` in {PATTERN}. Give the folder of a training."
        )
    return iterations * float(np.median(times)) / 3600
