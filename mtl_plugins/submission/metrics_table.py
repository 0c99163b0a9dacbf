"""``metrics.csv`` of a submission: one row per validation."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.errors import SubmissionError

_METRIC_PREFIX = 'metrics_'


def format_metrics_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV text whose columns are the keys of all rows in the order of their first appearance; absent values stay empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_scalar_rows(path: str | Path) -> list[dict[str, Any]]:
    """The validations in a ``vis_data/scalars.json`` of mmengine (one JSON object per line): ``step`` and all metrics.

    Lines without metrics (losses) are left out. A step that was validated again after resuming keeps its last values.

    Raises:
        SubmissionError: If the file cannot be read or a line is no JSON object. An unfinished last line is left out.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SubmissionError(f'Cannot read the metrics in {path}: {error}.') from error
    rows: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            scalars = json.loads(line)
            metrics = {name: value for name, value in scalars.items() if name.startswith(_METRIC_PREFIX)}
        except (ValueError, AttributeError) as error:
            if number == len(lines):
                break
            raise SubmissionError(f'Line {number} of {path} should be a JSON object.') from error
        if metrics:
            rows.pop(scalars.get('step'), None)
            rows[scalars.get('step')] = {'step': scalars.get('step'), **metrics}
    return list(rows.values())
