"""Packed splits on another disk are those of the original, and are known to be."""

import errno
import json
import os
import shutil
import threading

import numpy as np
import pytest

from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing import staging
from mtl_plugins.datasets.packing.packed import open_packed, write_packed
from mtl_plugins.datasets.packing.staging import stage
from mtl_plugins.errors import CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.utils import files
from tests.datasets.layouts import flip_last_bit


@pytest.fixture
def packed_root(data_root, tmp_path):
    """A data set whose training split is packed."""
    root = tmp_path / 'shared' / 'miniscapes'
    shutil.copytree(data_root, root)
    write_packed(list_miniscapes(root, 'train'))
    return root


def _same(root, staged) -> bool:
    found = [open_packed(list_miniscapes(place, 'train')) for place in (root, staged)]
    assert None not in found, 'a packed folder counts as stale'
    pairs = zip(*found, strict=True)
    return all(np.array_equal(value, b[key]) for a, b in pairs for key, value in a.items())


def test_a_staged_split_is_fresh_holds_the_same_samples_and_is_copied_once(packed_root, tmp_path):
    node = tmp_path / 'node' / 'tmp'
    staged = stage(packed_root, node)
    assert staged.parent == node
    copied = [path.relative_to(staged).as_posix() for path in staged.glob('*/packed/*') if path.resolve().is_relative_to(node)]
    assert sorted(copied) == [f'train/packed/{name}' for name in ('depth.npy', 'index.json', 'rgb.npy', 'semseg.npy')]
    # Splits without a packed folder are the original's, and so is what lies beside them.
    assert list_miniscapes(staged, 'val').stems == list_miniscapes(packed_root, 'val').stems
    assert (staged / 'grader').resolve() == (packed_root / 'grader').resolve()
    assert sorted(path.name for path in node.iterdir()) == [staged.name, f'{staged.name}.lock']
    assert _same(packed_root, staged)

    before = (staged / 'train' / 'packed' / 'rgb.npy').stat()
    assert stage(packed_root, node) == staged
    assert (staged / 'train' / 'packed' / 'rgb.npy').stat() == before
    # Another data set of the same name has its own place.
    other = shutil.copytree(packed_root, tmp_path / 'other' / 'miniscapes')
    assert stage(other, node) != staged


def test_a_copy_is_renewed_when_the_split_is_packed_anew_or_a_copy_was_cut_off(packed_root, tmp_path, monkeypatch):
    staged = stage(packed_root, tmp_path / 'node')
    image = packed_root / 'train' / 'rgb' / '0.jpg'
    shutil.copy(packed_root / 'train' / 'rgb' / '1.jpg', image)
    # As everywhere, the copy is stale from now on, as the original is.
    assert open_packed(list_miniscapes(staged, 'train')) is None
    write_packed(list_miniscapes(packed_root, 'train'))
    assert _same(packed_root, stage(packed_root, tmp_path / 'node'))
    # What a kill leaves: half a copy under another name.
    half = staged.with_name(f'.{staged.name}.999999999-1.tmp')
    (half / 'train').mkdir(parents=True)
    monkeypatch.setattr(files, '_cleared', set())
    os.truncate(staged / 'train' / 'packed' / 'rgb.npy', 100)
    assert _same(packed_root, stage(packed_root, tmp_path / 'node')) and not half.exists()


def test_a_copy_is_renewed_when_it_is_damaged_or_something_came_beside_it(packed_root, tmp_path):
    """A copy of the right size was used for ever; a description or a split that came later was not seen by the trainings."""
    staged = stage(packed_root, tmp_path / 'node')
    array = staged / 'train' / 'packed' / 'semseg.npy'
    flip_last_bit(array)
    with pytest.raises(CorruptFileError, match=r"sample 7 of 'semseg.npy' is not what was packed"):
        open_packed(list_miniscapes(staged, 'train'))[7]
    assert _same(packed_root, stage(packed_root, tmp_path / 'node'))

    kinds = dict(labels=dict(semseg=dict(type='ClassMap', classes=['all', 'none'], mapping={0: 0})))
    (packed_root / 'dataset.json').write_text(json.dumps(kinds))
    shutil.copytree(packed_root / 'val', packed_root / 'more')
    (packed_root / 'train' / 'normals').mkdir()
    assert stage(packed_root, tmp_path / 'node') == staged
    assert [(staged / name).exists() for name in ('dataset.json', 'more', 'train/normals')] == [True] * 3
    # Its labels are others than those that were packed.
    assert open_packed(list_miniscapes(staged, 'train')) is None
    shutil.rmtree(packed_root / 'more')
    assert not (stage(packed_root, tmp_path / 'node') / 'more').is_symlink()


def test_of_several_processes_one_copies(packed_root, tmp_path, monkeypatch):
    copies, copy = [], staging._copy
    monkeypatch.setattr(staging, '_copy', lambda *arguments: (copies.append(1), copy(*arguments)))
    threads = [threading.Thread(target=stage, args=(packed_root, tmp_path / 'node')) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert copies == [1]


def test_what_cannot_be_staged_is_said_in_a_sentence(packed_root, data_root, tmp_path, monkeypatch):
    with pytest.raises(DataNotFoundError, match=r"'.*nowhere' does not exist. Set it with `--data-root`"):
        stage(tmp_path / 'nowhere', tmp_path / 'node')
    with pytest.raises(DataNotFoundError, match=r'has no packed split to copy to the node. Run .*/pack_dataset.py'):
        stage(data_root, tmp_path / 'node')

    def full(source, target):
        raise OSError(errno.ENOSPC, 'No space left on device', str(target))

    monkeypatch.setattr(shutil, 'copyfile', full)
    with pytest.raises(DataError, match=r"Copying '.*miniscapes' needs 0.0 GiB, and '.*node' has [\d.]+ GiB left"):
        stage(packed_root, tmp_path / 'node')
    assert [path.suffix for path in (tmp_path / 'node').iterdir()] == ['.lock']
