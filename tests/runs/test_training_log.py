"""What the log of a training tells: lines of several starts, and hours."""

import json

import numpy as np
import pytest

from mtl_plugins.errors import CorruptFileError, DataNotFoundError
from mtl_plugins.lab.runs.training_log import read_scalars, wall_hours
from mtl_plugins.records.record import training_time


def write_log(run, start, *lines):
    folder = run / start / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n')


def test_a_resumed_run_replaces_what_it_did_again_and_a_line_that_was_cut_off_is_no_error(tmp_path):
    first = [
        dict(iter=10, loss=5.0),
        dict(step=10, score=1.0),
        dict(iter=20, loss=4.0),
        dict(iter=30, loss=9.0),
        '{"iter": 40, "lo',
    ]
    write_log(tmp_path, '20260101_000000', *first)
    write_log(tmp_path, '20260102_000000', dict(iter=20, loss=3.0), dict(iter=30, loss=2.0))
    assert [(row['iter'], row['loss']) for row in read_scalars(tmp_path)] == [(10, 5.0), (20, 3.0), (30, 2.0)]
    write_log(tmp_path, '20260103_000000', 'no json', dict(iter=40))
    with pytest.raises(CorruptFileError, match=r'Line 1 of .*no json'):
        read_scalars(tmp_path)
    assert read_scalars(tmp_path / 'nowhere') == []


def test_hours_are_those_of_the_record_or_else_median_seconds_times_iterations(tmp_path):
    with pytest.raises(DataNotFoundError, match='Found neither'):
        wall_hours(tmp_path, np.array([1]))
    # One iteration that waited for something else must not count for the fifty around it.
    write_log(tmp_path, '20260101_000000', *(dict(iter=50 * n, time=seconds) for n, seconds in enumerate((2, 2, 90, 2, 2), 1)))
    np.testing.assert_allclose(wall_hours(tmp_path, np.array([0, 900, 1800])), [0, 0.5, 1], rtol=1e-12)
    validations = [dict(epoch=1, iter=100, seconds=3600), dict(epoch=2, iter=200, seconds=10800)]
    (tmp_path / 'run.json').write_text(json.dumps(dict(validations=validations)))
    np.testing.assert_allclose(wall_hours(tmp_path, np.array([0, 50, 100, 150, 200, 300])), [0, 0.5, 1, 2, 3, 4.5], rtol=1e-12)


def test_iterations_that_were_done_twice_count_once():
    """A training that was killed at iteration 130 and went on from the checkpoint of 100, twice, the first time for nothing."""
    sessions = [
        dict(from_iter=0, iterations=130, train_seconds=13.0),
        dict(from_iter=100, iterations=0, train_seconds=0.5),
        dict(from_iter=100, iterations=50, train_seconds=8.0),
    ]
    assert training_time(sessions) == pytest.approx(10.0 + 8.0)
    assert training_time(sessions[-1:]) == 8.0
