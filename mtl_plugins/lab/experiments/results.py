"""The JSON file of each training: how it was made and what it reached."""

import datetime
import functools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.errors import CorruptFileError, UserError
from mtl_plugins.lab.experiments.definition import Point, Sweep, content_hash
from mtl_plugins.records.config_data import as_data
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.provenance import code_state, package_versions
from mtl_plugins.records.record import read_record_file, seconds_per_iteration
from mtl_plugins.synthetic.position_baseline import fit_position_baseline, score_position_baseline
from mtl_plugins.utils.config_classes import suggest
from mtl_plugins.utils.data_files import ANY, is_number, is_text, read_json
from mtl_plugins.utils.files import replacing

BASELINE, BASELINE_FILE = 'per-position baseline', 'per-position-baseline.json'
_FORM = dict(
    **dict.fromkeys(('seed', 'parameters', 'memory', 'seconds', 'step_seconds'), is_number),
    **dict.fromkeys(('config', 'config_hash', 'commit', 'date', 'device'), is_text),
    metrics={ANY: is_number},
    validations=[{ANY: is_number}],
    versions={ANY: is_text},
)


def read_note(path: Path, form: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the object in a JSON file of a sweep, empty if there is none; anything else is a `CorruptFileError`."""
    return read_json(path, 'file of a sweep', form or {}) if os.path.lexists(path) else {}


def read_result(path: Path) -> dict[str, Any]:
    """Return the result of a training, empty if there is none; scores that are no numbers are NaN."""
    document = read_note(path, _FORM)
    missing = [name for name in ('seed', 'metrics', 'date', 'device', 'versions') if document and document.get(name) is None]
    if missing:
        raise CorruptFileError(f"'{path}' is no result of a training: it has no `{missing[0]}`. Remove it.")
    if document:
        document['metrics'] = {name: math.nan if score is None else score for name, score in document['metrics'].items()}
    return document


def write_json(path: Path, document: Any) -> None:
    """Write JSON that appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + '\n', encoding='utf-8')


def origin_of(sweep: Sweep, point: Point, seed: int) -> dict[str, Any]:
    """Return the choices on which a result depends, as JSON has them."""
    origin = dict(config=point.config, options=point.options_of(seed), seed=seed, data=sweep.data, amp=sweep.amp)
    return json.loads(json.dumps(origin, default=str))


def find_change(sweep: Sweep, point: Point, document: Mapping[str, Any]) -> str | None:
    """Return the key in which a result was made otherwise than it would be now: of its origin, or ``config_hash``.

    What an older result does not state is taken to be the same, and so is a config that is gone.
    """
    for key, value in origin_of(sweep, point, document['seed']).items():
        if key in document and document[key] != value:
            return key
    stated = document.get('config_hash')
    return 'config_hash' if stated and (hash_of(sweep, point) or stated) != stated else None


def write_result(sweep: Sweep, point: Point, seed: int, folder: Path, path: Path) -> dict[str, Any]:
    """Write down and return what a training left in its folder."""
    record, rows = read_record_file(folder), read_metrics(folder / METRICS_FILE)
    device = record['device']
    known = {entry['iter']: entry for entry in record.get('validations') or ()}
    validations = [
        dict(
            iter=int(row['iter']),
            **{key: known.get(int(row['iter']), {}).get(key) for key in ('train_seconds', 'train_cpu_seconds')},
            **{name: value for name, value in scores_of(row).items() if name.startswith('metrics_summary/')},
        )
        for row in rows
    ]
    document = dict(
        row=point.label,
        **origin_of(sweep, point, seed),
        config_hash=hash_of(sweep, point),
        split='val',
        metrics=as_data(scores_of(rows[-1])),
        validations=as_data(validations),
        parameters=record['parameters'],
        memory=record['memory_mib'],
        seconds=record['seconds'],
        step_seconds=seconds_per_iteration(record),
        commit=record['code']['commit'],
        date=record['started'],
        device=device['name'] if record['memory_of'] == 'gpu' else f'{device["name"]}, {device["threads"]} thread(s)',
        versions=record['versions'],
    )
    write_json(path, document)
    return document


def ensure_baseline(sweep: Sweep, path: Path, data_root: Path | None) -> None:
    """Write the scores of the per-position baseline, unless they are there for the same data."""
    if data_root is None:
        raise UserError(f'`baseline` of {sweep.path} needs data: state `data` in the file, or give --data-root.')
    if read_note(path).get('data', ...) != sweep.data:
        scores = score_position_baseline(fit_position_baseline(data_root / 'train'), data_root / 'val')
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')
        made = dict(commit=code_state()['commit'], date=date, device='cpu', versions=package_versions())
        write_json(path, dict(row=BASELINE, data=sweep.data, split='val', metrics=scores, **made))


def scores_of(row: Mapping[str, str]) -> dict[str, float]:
    """Return the numbers of a row of ``metrics.csv``."""
    return {name: float(value) for name, value in row.items() if value}


def pick(scores: Mapping[str, float], metric: str) -> float:
    """Return the score that a sweep is about, which the validation has to measure."""
    if metric not in scores:
        raise UserError(f'No validation measures `metric` {metric!r}, a column of metrics.csv.{suggest(metric, scores)}')
    return scores[metric]


def hash_of(sweep: Sweep, point: Point) -> str | None:
    """Return the hash of what matters in the config of a point, None if it cannot be read."""
    return _hash(sweep, point.config, json.dumps(point.options, sort_keys=True, default=str))


@functools.cache
def _hash(sweep: Sweep, config: str, options: str) -> str | None:
    # Without data: their description would change the hash where they are present.
    try:
        return content_hash(sweep.load(config, json.loads(options), Path('no data')))
    except UserError:
        return None
