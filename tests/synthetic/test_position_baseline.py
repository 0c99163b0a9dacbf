import json

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.errors import DataError, DataNotFoundError
from mtl_plugins.evaluation.label_folder import find_labels
from mtl_plugins.labels.depth_codec import decode_depth
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_label
from mtl_plugins.labels.surface_normals import encode_normals
from mtl_plugins.synthetic.position_baseline import fit_position_baseline, guess_codes, score_position_baseline
from tests.evaluation.references import reference_depth, reference_semseg
from tests.fake_miniscapes import save_label


def _write(folder, semseg, depth):
    for task, maps in (('semseg', semseg), ('depth', depth)):
        (folder / task).mkdir(parents=True)
        for index, values in enumerate(maps):
            path = folder / task / f'{index}.png'
            save_label(path, values) if task == 'semseg' else Image.fromarray(values).save(path)
    return folder


def _guess_reference(stack, ignored, choose):
    """Return what ``choose`` makes of the values at each position, or of all where all of a position are ignored."""
    result = np.empty(stack.shape[1:], np.uint8)
    for position in np.ndindex(result.shape):
        values = stack[(slice(None), *position)]
        values = values[values != ignored]
        result[position] = choose(values if len(values) else stack[stack != ignored])
    return result


def test_guesses_and_scores_equal_the_reference(tmp_path):
    rng = np.random.default_rng(0)
    semseg = rng.choice([0, 1, 2, 255], size=(7, 9, 11)).astype(np.uint8)
    depth = rng.choice([0, 1, 40, 41, 255], size=(7, 9, 11)).astype(np.uint8)
    semseg[:, 2, 3], depth[:, 4, 5] = 255, 0
    baseline = fit_position_baseline(_write(tmp_path / 'train', semseg, depth))
    np.testing.assert_array_equal(baseline['semseg'], _guess_reference(semseg, 255, lambda values: np.bincount(values).argmax()))
    np.testing.assert_array_equal(
        baseline['depth'], _guess_reference(depth, 0, lambda values: np.percentile(values, 50, method='lower'))
    )

    val_semseg, val_depth = semseg[:3, ::-1].copy(), depth[:3, ::-1].copy()
    scores = score_position_baseline(baseline, _write(tmp_path / 'val', val_semseg, val_depth))
    expected = reference_semseg(val_semseg, [baseline['semseg']] * 3)['mean_iou']
    assert scores['metrics_summary/semseg'] == pytest.approx(expected, abs=1e-9)
    guesses = [decode_depth(baseline['depth'])] * 3
    for name, value in reference_depth([decode_depth(codes) for codes in val_depth], guesses).items():
        assert scores[f'metrics_task_depth/{name}'] == pytest.approx(value, rel=1e-9, abs=1e-9)


METRES = dict(type='DepthMap', encoding='metres', depth_range=[4, 300])
NORMALS = [encode_normals(np.float32([[x, [0, 0, 0]]])) for x in ([0, 0, 1], [1, 0, 0])]


@pytest.mark.parametrize(
    ('label', 'maps', 'expected'),
    [
        # Half of the pixels are known to be nearer than the range: they were left out, and the guess was that of the far ones.
        (METRES, [np.full((1, 2), metres, np.float32) for metres in (1, 2, 3, 50, 200)], [[4, 4]]),
        (MINISCAPES_LABELS['normals'], NORMALS, [[[0.5**0.5, 0, 0.5**0.5]] * 2]),
        (MINISCAPES_LABELS['boundary'], np.uint8([[[0, 1, 255]], [[1, 1, 255]]]), [[0.5, 1, 0.75]]),
    ],
    ids=['metres', 'normals', 'boundary'],
)
def test_guesses_of_other_kinds(label, maps, expected):
    kind = build_label('label', label)
    np.testing.assert_allclose(kind.code_values(guess_codes(kind, maps)), expected, atol=0.01)


def test_bad_labels(tmp_path):
    zeros = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(DataNotFoundError, match=r'has none of the label folders semseg and/or depth'):
        fit_position_baseline(tmp_path)
    with pytest.raises(DataError, match=r'The training labels have no valid pixel'):
        fit_position_baseline(_write(tmp_path / 'no_depth', zeros, zeros))
    with pytest.raises(DataError, match=r'All labels should have the size of the first, \(4, 4\)'):
        fit_position_baseline(_write(tmp_path / 'sizes', [zeros[0], zeros[0, :3]], zeros + 1))
    baseline = dict(semseg=zeros[0], depth=zeros[0] + 1)
    with pytest.raises(DataError, match=r'The depth labels have no valid pixel'):
        score_position_baseline(baseline, tmp_path / 'no_depth')
    with pytest.raises(DataError, match=r'The baseline is for labels of the size \(4, 4\)'):
        score_position_baseline(baseline, _write(tmp_path / 'small', zeros[:, :3], zeros[:, :3]))


def test_labels_are_read_as_the_description_says(tmp_path, caplog):
    """Arrays that training reads were "no file named <index>.png"; files of other suffixes were left out without a word."""
    metres = np.full((4, 6), 2.0, np.float32)
    (tmp_path / 'train/depth').mkdir(parents=True)
    for name in ('0.npy', '1.NPY'):
        with open(tmp_path / 'train/depth' / name, 'wb') as file:
            np.save(file, metres)
    (tmp_path / 'train/depth/2.tif').touch()
    (tmp_path / 'train/depth/.3.npy').touch()
    label = dict(type='DepthMap', encoding='metres', path='{split}/depth/{stem}.npy', depth_range=[1, 10])
    (tmp_path / 'dataset.json').write_text(json.dumps(dict(labels=dict(depth=label))))
    files = find_labels(tmp_path / 'train')['depth']
    assert [path.name for path in files.paths.values()] == ['0.npy', '1.NPY']
    np.testing.assert_array_equal(files.kind.decode(str(files.paths['1'])), metres)
    assert 'has 2 labels. Left out: 2.tif' in caplog.text
    label = dict(label, encoding='disparity', camera='camera/{stem}.json')
    (tmp_path / 'dataset.json').write_text(json.dumps(dict(labels=dict(depth=label))))
    with pytest.raises(DataError, match=r'needs camera/\{stem\}\.json as well'):
        find_labels(tmp_path / 'train')
