"""``<timestamp>/vis_data/scalars.json`` of a work dir: what a training logged every few iterations, an object a line."""

import json
from pathlib import Path

import numpy as np

from mtl_plugins.errors import CorruptFileError, DataNotFoundError

PATTERN = '*/vis_data/scalars.json'


def read_scalars(run: str | Path) -> list[dict[str, float]]:
    """The lines of the training, each with ``iter``, in its order; none if nothing was logged.

    A resumed run has several files: what an earlier one says of iterations that a later one did again is left out. So are lines
    of validations, and a last line that was cut off.

    Raises:
        CorruptFileError: If a file holds something else.
    """
    rows: list[dict[str, float]] = []
    for path in sorted(Path(run).glob(PATTERN)):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                row = dict(row) if 'iter' in row else {}
            except (ValueError, TypeError) as error:
                if number == len(lines):
                    break
                raise CorruptFileError(f"Line {number} of '{path}' should be a JSON object. Found {line[:60]!r}.") from error
            if row:
                while rows and rows[-1]['iter'] >= row['iter']:
                    rows.pop()
                rows.append(row)
    return rows


def training_hours(run: str | Path, iterations: np.ndarray) -> np.ndarray:
    """Hours of training, without validations, that a run took until some iterations, from the seconds per iteration it logged.

    Between two lines of the log time passes evenly; before the first line as fast as up to it, after the last as before it.

    Raises:
        DataNotFoundError: If the run logged no times.
        CorruptFileError: If its log is damaged.
    """
    rows = [row for row in read_scalars(run) if row.get('time')]
    if not rows:
        raise DataNotFoundError(f"'{run}' should hold {PATTERN} with `time`, the seconds of an iteration. Found none.")
    done, seconds = (np.array([row[key] for row in rows], np.float64) for key in ('iter', 'time'))
    passed = np.concatenate([[0.0], np.cumsum(np.diff(done, prepend=0) * seconds)])
    within = np.interp(iterations, np.concatenate([[0.0], done]), passed)
    return (within + np.maximum(np.asarray(iterations) - done[-1], 0) * seconds[-1]) / 3600
