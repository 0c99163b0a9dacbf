import threading
import time

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.errors import SubmissionError
from mtl_plugins.labels.depth_codec import encode_depth
from mtl_plugins.labels.depth_map import DepthMap
from mtl_plugins.submission import SubmissionWriter
from tests.fake_miniscapes import LABELS

DEPTH = {'depth': LABELS['depth']}

ZEROS, METRES = np.zeros((4, 6), np.uint8), np.full((4, 6), 20, np.float32)


@pytest.mark.parametrize('rounding', ['nearest', 'truncate'])
def test_files_hold_the_predictions(submission, rounding):
    submission.write(rounding=rounding)
    for stem in submission.image_sizes:
        for task, expected in (('semseg', submission.semseg[stem]), ('depth', encode_depth(submission.depth[stem], rounding))):
            np.testing.assert_array_equal(np.asarray(Image.open(submission.out_dir / f'predictions/{task}/{stem}.png')), expected)
    names = sorted(path.name for path in (submission.out_dir / 'predictions').rglob('*') if path.is_file())
    assert len(names) == 2 * len(submission.image_sizes) and not any('tmp' in name for name in names)


@pytest.mark.parametrize(
    ('maps', 'message'),
    [
        (dict(semseg=ZEROS), r"Image 7: there should be predictions for \['depth', 'semseg'\]. Found \['semseg'\]"),
        (dict(semseg=ZEROS, depth=METRES[:2]), r'Image 7: predictions should be maps of one size. Found \[\(4, 6\), \(2, 6\)\]'),
        (dict(semseg=ZEROS[None], depth=METRES[None]), r'Image 7: predictions should be maps of one size'),
        (dict(semseg=ZEROS + 19, depth=METRES), r'Image 7: `semseg` should hold classes 0\.\.18. Found 19'),
        (dict(semseg=ZEROS.astype(int), depth=METRES), r'Image 7: `semseg` should be uint8. Found int64'),
        (dict(semseg=ZEROS, depth=METRES * np.nan), r'Image 7: `depth` should be finite'),
    ],
)
def test_bad_predictions_name_the_image(tmp_path, maps, message):
    with pytest.raises(SubmissionError, match=message), SubmissionWriter(tmp_path, LABELS) as open_writer:
        open_writer.add('7', maps)


def test_an_error_in_the_background_stops_the_next_add(tmp_path):
    open_writer = SubmissionWriter(tmp_path, DEPTH)
    open_writer.add('0', dict(depth=METRES * np.inf))
    with pytest.raises(SubmissionError, match='Image 0: `depth` should be finite'):
        for index in range(1, 1000):
            open_writer.add(str(index), dict(depth=METRES))
    with pytest.raises(SubmissionError, match='Image 0'):
        open_writer.close()


def test_an_error_of_the_model_is_not_hidden_by_one_of_the_writer(tmp_path):
    with pytest.raises(KeyError, match='model'), SubmissionWriter(tmp_path, DEPTH) as open_writer:
        open_writer.add('0', dict(depth=METRES * np.inf))
        raise KeyError('model')


def test_the_queue_is_bounded(tmp_path, monkeypatch):
    """A model faster than the disk must wait, or the predictions of the whole split pile up in memory."""
    gate = threading.Event()
    monkeypatch.setattr(DepthMap, 'to_png', lambda self, codes: gate.wait() and b'')
    open_writer = SubmissionWriter(tmp_path, DEPTH)
    added = []

    def add_all():
        for index in range(100):
            open_writer.add(str(index), dict(depth=METRES))
            added.append(index)

    thread = threading.Thread(target=add_all)
    thread.start()
    deadline = time.monotonic() + 60
    while len(added) < 16 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(added) == 16
    gate.set()
    thread.join()
    open_writer.close()
    assert len(added) == 100


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r'`labels` should hold at least one kind'):
        SubmissionWriter(tmp_path, {})
    with pytest.raises(ValueError, match=r"`rounding` should be 'nearest' or 'truncate'"):
        SubmissionWriter(tmp_path, DEPTH, rounding='up')
    with pytest.raises(SubmissionError, match=r"Image '../x': the name should have no folder"):
        SubmissionWriter(tmp_path, DEPTH).add('../x', dict(depth=METRES))
    blocked = tmp_path / 'file'
    blocked.write_text('')
    with pytest.raises(SubmissionError, match=r'Cannot write .*predictions'):
        SubmissionWriter(blocked, DEPTH)
