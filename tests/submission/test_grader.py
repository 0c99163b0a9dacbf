import stat
import struct
import zipfile

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from PIL import Image

from mtl_plugins.errors import DataError, UserError
from mtl_plugins.evaluation.metrics import MultiTaskMetric
from mtl_plugins.labels.depth_codec import decode_depth, encode_depth
from mtl_plugins.submission.grader import grade_submission


def _validation(submission, tasks):
    evaluator = Evaluator(MultiTaskMetric(tasks))
    for index, stem in enumerate(submission.image_sizes):
        label = {task: np.asarray(Image.open(submission.labels / task / f'{stem}.png')) for task in ('semseg', 'depth')}
        metres = decode_depth(encode_depth(submission.depth[stem]))
        maps = dict(
            gt_sem_seg=label['semseg'],
            pred_sem_seg=submission.semseg[stem],
            gt_depth_map=decode_depth(label['depth']),
            pred_depth_map=metres,
        )
        sample = {key: dict(data=torch.from_numpy(values.copy())[None]) for key, values in maps.items()}
        evaluator.process([dict(sample_idx=index, img_path=stem, **sample)])
    return evaluator.evaluate(len(submission.image_sizes))


@pytest.mark.parametrize('tasks', [('semseg', 'depth'), ('semseg',), ('depth',)])
def test_graded_scores_are_the_validation_scores(submission, tasks):
    archive = submission.write(tasks=tasks).pack(tasks=tasks)
    assert grade_submission(archive, submission.labels) == pytest.approx(_validation(submission, tasks), rel=1e-12)


def test_logs_and_checkpoints_in_the_archive_do_not_matter(submission, tmp_path):
    extra = tmp_path / '20260101_120000.log'
    extra.write_bytes(BOMB)
    plain = grade_submission(submission.write().pack(), submission.labels)
    assert grade_submission(submission.pack(logs=[extra], checkpoint=extra), submission.labels) == plain


def test_labels_of_one_task_grade_that_task(submission):
    archive = submission.write().pack()
    (submission.labels / 'depth').rename(submission.labels / 'hidden')
    scores = grade_submission(archive, submission.labels)
    assert scores['metrics_summary/multitask'] == 0
    assert not any('depth' in name for name in scores)


def _entry(name, mode=0, compression=zipfile.ZIP_STORED):
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, compression
    return info


def _rewrite(archive, change):
    """The archive again, with ``change(name, data)`` giving the (entry, data) pairs that stand in place of each file."""
    with zipfile.ZipFile(archive) as old:
        files = [(info.filename, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(archive, 'w') as new:
        for name, data in files:
            for entry, content in change(name, data):
                new.writestr(entry, content)


def _replace(target, data, **options):
    return lambda name, old: [(_entry(name, **options), data)] if name == target else [(_entry(name), old)]


def _also(added, data=b'', **options):
    def change(name, old):
        return [(_entry(name), old)] + ([(_entry(added, **options), data)] if name == 'metrics.csv' else [])

    return change


DEPTH_3 = 'predictions/depth/3.png'
BOMB = bytes(50_000_000)


@pytest.mark.filterwarnings('ignore:Duplicate name')
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda name, old: [] if name == DEPTH_3 else [(name, old)], r'predictions/depth: 3\.png is missing'),
        (_also('predictions/depth/11.png'), r'predictions/depth: 11\.png is not the prediction of a test image'),
        (_also('predictions/depth/03.png'), r'predictions/depth: 03\.png is not the prediction'),
        (_replace(DEPTH_3, b'text'), r'predictions/depth/3\.png is not a PNG file'),
        (_also('notes.txt'), r"'notes\.txt' does not belong in a submission archive"),
        (_also('logs/a/b.log'), r"'logs/a/b\.log' does not belong"),
        (_also('logs/run.sh'), r"'logs/run\.sh' does not belong"),
        (_also('predictions/flow/0.png'), r"'predictions/flow/0\.png' does not belong"),
        (_also('predictions/depth/a/0.png'), r"'predictions/depth/a/0\.png' does not belong"),
        (_also('predictions/depth/\x1b[2J.png'), r"'predictions/depth/\\x1b\[2J\.png' does not belong"),
        (_also('../evil.png'), r"'\.\./evil\.png' is an unsafe name"),
        (_also('predictions/depth/../../../0.png'), r'is an unsafe name'),
        (_also('/etc/passwd'), r"'/etc/passwd' is an unsafe name"),
        (_also('C:/evil.png'), r'is an unsafe name'),
        (_also('predictions\\depth\\0.png'), r'is an unsafe name'),
        (_also('\x1b[2Jscreen'), r"'\\x1b\[2Jscreen' does not belong"),
        (_also('x' * 500), r"'x{100}\.\.\.' does not belong"),
        (_replace(DEPTH_3, b'/etc/passwd', mode=stat.S_IFLNK | 0o777), r'should be a regular file. Found a link'),
        (_also('checkpoints/pipe', mode=stat.S_IFIFO | 0o644), r'should be a regular file'),
        (_also(DEPTH_3, b'again'), r"'predictions/depth/3\.png' occurs twice"),
        (_replace(DEPTH_3, BOMB, compression=zipfile.ZIP_DEFLATED), r'at most 67456 bytes uncompressed. Found 50000000'),
        (_replace(DEPTH_3, b'x', compression=zipfile.ZIP_LZMA), r'should be stored or deflated. Found compression method 14'),
        (lambda name, old: [(name, old)] if 'predictions' not in name else [], r'should hold predictions/semseg or predictions'),
    ],
)
def test_bad_archives_get_one_sentence(submission, change, message):
    archive = submission.write().pack()
    _rewrite(archive, change)
    with pytest.raises(UserError, match=message) as caught:
        grade_submission(archive, submission.labels)
    assert '\n' not in str(caught.value)


def _patch_entry(archive, name, offset, value):
    data = bytearray(archive.read_bytes())
    at = data.rindex(name.encode()) - 46 + offset
    data[at : at + len(value)] = value
    archive.write_bytes(data)


def _patch_end(archive, value):
    archive.write_bytes(archive.read_bytes()[:-10] + value + archive.read_bytes()[-6:])


def _lying_bomb(archive):
    _rewrite(archive, _replace(DEPTH_3, BOMB, compression=zipfile.ZIP_DEFLATED))
    _patch_entry(archive, DEPTH_3, 24, struct.pack('<I', 1000))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (_lying_bomb, r"'predictions/depth/3\.png' is damaged: Bad CRC-32"),
        (lambda archive: _patch_entry(archive, DEPTH_3, 8, struct.pack('<H', 1)), 'is encrypted'),
        (lambda archive: _patch_end(archive, struct.pack('<I', 2**30)), 'has too many entries'),
        *(
            (lambda archive, cut=cut: archive.write_bytes(archive.read_bytes()[:cut]), 'is not a zip archive, or is truncated')
            for cut in (0, 10, 1000, -30, -1)
        ),
    ],
)
def test_damaged_archives_get_one_sentence(submission, damage, message):
    damage(submission.write().pack())
    with pytest.raises(UserError, match=message):
        grade_submission(submission.archive, submission.labels)


def test_random_damage_never_escapes_as_another_error(submission):
    """Flipped bytes anywhere give the same scores (in the extras) or one sentence."""
    archive = submission.write().pack()
    intact, rng = archive.read_bytes(), np.random.default_rng(0)
    expected = grade_submission(archive, submission.labels)
    # The predictions and the directory lie behind the source, which is never read.
    first = intact.index(b'predictions/')
    refused = 0
    for _ in range(150):
        data = bytearray(intact)
        for position in rng.integers(first, len(data), 3):
            data[position] = rng.integers(256)
        archive.write_bytes(data)
        try:
            assert grade_submission(archive, submission.labels) == expected
        except UserError:
            refused += 1
    assert refused > 100


def test_bad_labels_and_no_archive(submission, tmp_path):
    archive = submission.write(tasks=('depth',)).pack(tasks=('depth',))
    with pytest.raises(UserError, match=r'Cannot open the archive .*nowhere\.zip: No such file'):
        grade_submission(tmp_path / 'nowhere.zip', submission.labels)
    with pytest.raises(DataError, match='has none of the label folders'):
        grade_submission(archive, tmp_path / 'nowhere')
    (submission.labels / 'depth').rename(submission.labels / 'hidden')
    with pytest.raises(UserError, match=r'predictions for depth, the labels in .* are for semseg'):
        grade_submission(archive, submission.labels)
    (submission.labels / 'depth').mkdir()
    with pytest.raises(DataError, match=r'holds no file named <index>\.png'):
        grade_submission(archive, submission.labels)


def test_images_without_valid_depth_do_not_count(submission):
    archive = submission.write().pack()
    Image.fromarray(np.zeros((24, 40), np.uint8)).save(submission.labels / 'depth' / '0.png')
    with_empty = grade_submission(archive, submission.labels)
    assert with_empty == pytest.approx(_validation(submission, ('semseg', 'depth')), rel=1e-12)
    for stem in submission.image_sizes:
        Image.fromarray(np.zeros((24, 40), np.uint8)).save(submission.labels / 'depth' / f'{stem}.png')
    with pytest.raises(DataError, match='The depth labels have no valid pixel'):
        grade_submission(archive, submission.labels)
