"""``metrics.csv``: one row per validation."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FILE_NAME = 'metrics.csv'


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """The rows of a ``metrics.csv``; none if the file does not exist."""
    if not Path(path).is_file():
        return []
    # A spreadsheet program that saves the file puts a byte order mark before the first name.
    with open(path, encoding='utf-8-sig', newline='') as file:
        return list(csv.DictReader(file))


def format_metrics(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV text whose columns are the keys of all rows in the order of their first appearance; absent values stay empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
