"""Predictions are written and packed whole, or not at all."""

import csv
import errno
import io
import os
import re
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.errors import InvalidPredictionError, SubmissionError
from mtl_plugins.labels.depth_codec import encode_depth
from mtl_plugins.labels.depth_map import DepthMap
from mtl_plugins.submission import SubmissionWriter, archive, find_image_sizes, make_run_name
from tests.fake_miniscapes import LABELS

METRICS = [
    {'epoch': 1, 'metrics_summary/semseg': 40.5},
    {'epoch': 2, 'metrics_summary/semseg': 50.0, 'metrics_summary/depth': 20.0},
]


def test_contents(submission, tmp_path):
    checkpoint = tmp_path / 'best.pth'
    checkpoint.write_bytes(b'weights')
    log = tmp_path / '20260101_120000.log'
    log.write_text('loss: 0.5')
    path = submission.write().pack(metrics=METRICS, checkpoint=checkpoint, logs=[log])
    with zipfile.ZipFile(path) as content:
        expected = {f'predictions/{task}/{stem}.png' for task in ('semseg', 'depth') for stem in submission.image_sizes}
        assert set(content.namelist()) == expected | {'source.zip', 'metrics.csv', f'logs/{log.name}', 'checkpoints/best.pth'}
        assert content.read(f'logs/{log.name}') == b'loss: 0.5'
        assert content.read('checkpoints/best.pth') == b'weights'
        for name in expected:
            assert content.read(name) == (submission.out_dir / name).read_bytes()
        rows = list(csv.DictReader(io.StringIO(content.read('metrics.csv').decode())))
        with zipfile.ZipFile(io.BytesIO(content.read('source.zip'))) as source:
            names = source.namelist()
            assert source.read('cmd.txt').decode() == 'python tools/train.py c.py\n\nmodel = dict()'
            assert source.read('mtl_plugins/submission/archive.py').decode() == open(archive.__file__).read()
    assert rows == [
        {'epoch': '1', 'metrics_summary/semseg': '40.5', 'metrics_summary/depth': ''},
        {'epoch': '2', 'metrics_summary/semseg': '50.0', 'metrics_summary/depth': '20.0'},
    ]
    assert any(name.startswith('tools/') for name in names)
    assert all(
        name == 'cmd.txt' or name.split('/')[0] in ('mtl_plugins', 'tools', 'configs') or '/' not in name for name in names
    )
    assert not any('__pycache__' in name or name.endswith('.pyc') for name in names)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda folder: (folder / 'depth/10.png').unlink(), r'predictions/depth: 10\.png is missing'),
        (lambda folder: [(folder / f'depth/{i}.png').unlink() for i in (2, 10)], r'depth: 2\.png \(and 1 more\) is missing'),
        (lambda folder: (folder / 'semseg/99.png').write_bytes(b''), r'semseg: 99\.png is not the prediction of a test image'),
        (lambda folder: (folder / 'semseg/3.png').write_bytes(b'no'), r'semseg/3\.png is not a PNG file'),
    ],
)
def test_bad_predictions_are_not_packed(submission, spoil, message):
    spoil(submission.write().out_dir / 'predictions')
    with pytest.raises(InvalidPredictionError, match=message):
        submission.pack()
    assert not submission.archive.exists()


def test_left_over_temporary_files_do_not_matter(submission):
    submission.write()
    (submission.out_dir / 'predictions/depth/.3.png.17-42.tmp').write_bytes(b'half')
    submission.pack()


def test_full_disk_keeps_the_previous_archive(submission, monkeypatch):
    before = submission.write().pack().read_bytes()

    class FullDisk(zipfile.ZipFile):
        def writestr(self, info, data):
            if 'depth/5' in info.filename:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().writestr(info, data)

    monkeypatch.setattr(archive.zipfile, 'ZipFile', FullDisk)
    with pytest.raises(SubmissionError, match=r'^The disk is full: cannot write .*submission\.zip\. Nothing was written'):
        submission.pack(command='another')
    assert submission.archive.read_bytes() == before
    assert sorted(path.name for path in submission.out_dir.iterdir()) == ['predictions', 'submission.zip']


def test_missing_checkpoint_and_images(submission, tmp_path):
    submission.write()
    with pytest.raises(SubmissionError, match=r'The checkpoint .*nowhere\.pth does not exist'):
        submission.pack(checkpoint=tmp_path / 'nowhere.pth')
    with pytest.raises(SubmissionError, match='There are no test images'):
        find_image_sizes([])
    (tmp_path / '0.jpg').write_bytes(b'no')
    with pytest.raises(SubmissionError, match=r'Cannot read the image .*0\.jpg'):
        find_image_sizes([tmp_path / '0.jpg'])


def test_run_name():
    assert re.fullmatch(r'T12_\d{4}-\d{4}_my-run_[0-9a-f]{5}', make_run_name(12, 'my-run'))
    assert make_run_name(1, 'x').startswith('T01_') and make_run_name(1, 'x') != make_run_name(1, 'x')
    assert re.fullmatch(r'G46_\d{4}-\d{4}_adam_lr_1e-4_[0-9a-f]{5}', make_run_name(46, 'adam_lr_1e-4', 'G'))
    for bad in ((100, 'x'), (1, 'a/b'), (1, ''), (1, 'x', ''), (1, 'x', '../'), (1, 'x', 7)):
        with pytest.raises(ValueError, match='should'):
            make_run_name(*bad)


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
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(lambda: [added.append(open_writer.add(str(index), dict(depth=METRES))) for index in range(100)])
        deadline = time.monotonic() + 60
        while len(added) < 16 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(added) == 16
        gate.set()
        adding.result()
    open_writer.close()
    assert len(added) == 100


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r'`labels` is empty'):
        SubmissionWriter(tmp_path, {})
    with pytest.raises(ValueError, match=r"`rounding` should be 'nearest' or 'truncate'"):
        SubmissionWriter(tmp_path, DEPTH, rounding='up')
    with pytest.raises(SubmissionError, match=r"Image '../x': the name should have no folder"):
        SubmissionWriter(tmp_path, DEPTH).add('../x', dict(depth=METRES))
    blocked = tmp_path / 'file'
    blocked.write_text('')
    with pytest.raises(SubmissionError, match=r'Cannot write .*predictions'):
        SubmissionWriter(blocked, DEPTH)
