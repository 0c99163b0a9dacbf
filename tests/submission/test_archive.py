import csv
import errno
import io
import os
import re
import zipfile

import pytest

from mtl_plugins.errors import InvalidPredictionError, SubmissionError
from mtl_plugins.submission import archive, find_image_sizes, make_run_name

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
    # That of the report of 2020.
    assert re.fullmatch(r'G46_\d{4}-\d{4}_adam_lr_1e-4_[0-9a-f]{5}', make_run_name(46, 'adam_lr_1e-4', 'G'))
    for bad in ((100, 'x'), (1, 'a/b'), (1, ''), (1, 'x', ''), (1, 'x', '../'), (1, 'x', 7)):
        with pytest.raises(ValueError, match='should'):
            make_run_name(*bad)
