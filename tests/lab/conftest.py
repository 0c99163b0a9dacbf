"""Sweep files."""

import pytest

from tests.tiny import EPOCH_CONFIG


@pytest.fixture
def write_sweep(tmp_path):
    """``write_sweep(rows=..., ...)`` writes such a file, of the joint config if it names none."""

    def write(**entries):
        path = tmp_path / 'sweep.py'
        entries = dict(config=str(EPOCH_CONFIG)) | entries
        path.write_text(''.join(f'{key} = {value!r}\n' for key, value in entries.items()))
        return path

    return write
