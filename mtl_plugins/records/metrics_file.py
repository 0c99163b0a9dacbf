"""``metrics.csv``: one row per validation."""

import contextlib
import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.errors import CorruptFileError
from mtl_plugins.evaluation.scores import rule_of, with_ties_broken
from mtl_plugins.utils.data_files import read_bytes, shorten

FILE_NAME = 'metrics.csv'
MOST_BYTES = 2**28


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a ``metrics.csv``; none if the file does not exist. Raise CorruptFileError if it is no such table."""
    try:
        # A spreadsheet program that saves the file puts a byte order mark before the first name.
        rows = list(csv.DictReader(io.StringIO(read_bytes(path, MOST_BYTES).decode('utf-8-sig'), newline='')))
        if any(abs(int(row['iter'])) >= 2**63 for row in rows):
            raise ValueError('an iteration is no number of 64 bits')
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        # A link to nowhere is no run without validations.
        if isinstance(error, FileNotFoundError) and not os.path.islink(path):
            return []
        raise CorruptFileError(f"'{path}' is not the file of a run's metrics ({shorten(error)}).") from error
    return rows


def rows_up_to(path: str | Path, iteration: int) -> list[dict[str, str]]:
    """Return the rows of :func:`read_metrics` up to an iteration of the training."""
    return [row for row in read_metrics(path) if int(row['iter']) <= iteration]


def format_metrics(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return CSV text whose columns are the keys of all rows in order of appearance; absent values stay empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def best_validation(rows: Sequence[Mapping[str, float]], monitor: str | None, rule: str | None) -> int | None:
    """Return the index of the first row with the best ``monitor``, ties broken as for checkpoints; None without one.

    ``rule`` is ``'greater'`` or ``'less'``; None is that of the summaries of this package.
    """
    rule = rule or rule_of(monitor)
    if monitor is None or rule not in ('greater', 'less'):
        return None
    sign = 1 if rule == 'greater' else -1
    values = [with_ties_broken(row).get(monitor, math.nan) for row in rows]
    known = [index for index, value in enumerate(values) if not math.isnan(value)]
    return max(known, key=lambda index: sign * values[index], default=None)


def read_row(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a row of ``metrics.csv``; what is not a number is left out."""
    scores = {}
    for name, value in row.items():
        if name not in ('epoch', 'iter'):
            with contextlib.suppress(ValueError, TypeError):
                scores[name] = float(value)
    return scores
