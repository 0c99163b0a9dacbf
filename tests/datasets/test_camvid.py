"""CamVid in its three forms, and 7-Scenes as the documents describe it."""

import json
import re

import numpy as np
import pytest

from mtl_plugins.datasets.camvid import CLASSES, CamVidDataset, split_of
from mtl_plugins.datasets.conversion import convert, open_source
from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.errors import DataNotFoundError
from tests.datasets.layouts import CAMVID_FRAMES, random_image, save_png, write_camvid
from tests.tiny import ROOT


@pytest.mark.parametrize('form', ['pictures', 'segnet', 'original'])
def test_each_form_has_the_same_splits_and_classes(tmp_path, form):
    frames = write_camvid(tmp_path / 'camvid', form)
    for split, names in CAMVID_FRAMES.items():
        dataset = CamVidDataset(tmp_path / 'camvid', split)
        assert dataset.stems == list(names) and dataset.metainfo['classes'] == CLASSES
        for position, name in enumerate(names):
            found = dataset.read_sample(position)['gt_seg_map']
            np.testing.assert_array_equal(found, np.where(frames[name] == 11, 255, frames[name]))
    reports = convert(open_source('camvid', tmp_path / 'camvid')[0], tmp_path / 'out', size=(36, 48))
    assert [report.num_samples for report in reports.values()] == [4, 2, 2]
    for cls in (CamVidDataset, MiniScapesDataset):
        found = cls(tmp_path / 'out', 'val', tasks=('semseg',))
        assert list(found.metainfo['classes']) == list(CLASSES)
        expected = frames[CAMVID_FRAMES['val'][1]]
        np.testing.assert_array_equal(found.read_sample(1)['gt_seg_map'], np.where(expected == 11, 255, expected))


def test_the_splits_of_the_original_are_those_of_segnet():
    # The lists have 62 + 101 + 204, 101 and 62 + 171 frames; of each run the first and the last.
    runs = dict(
        train='0001TP_006690 0001TP_008520 0006R0_f00930 0006R0_f03930 0016E5_00390 0016E5_07920 0016E5_08190 0016E5_08640',
        val='0016E5_07959 0016E5_08159',
        test='0001TP_008550 0001TP_010380 Seq05VD_f00000 Seq05VD_f05100',
    )
    for split, names in runs.items():
        assert {split_of(name) for name in names.split()} == {split}


def test_without_files_it_is_one_sentence(tmp_path):
    with pytest.raises(DataNotFoundError, match="has no split 'train'"):
        CamVidDataset(tmp_path)


def test_seven_scenes_is_read_as_the_document_says(tmp_path):
    description = re.search(r'```json\n(.*?frame.*?)```', (ROOT / 'docs/datasets.md').read_text(), re.DOTALL)[1]
    depth = np.array([[0, 65535, 1500], [700, 3000, 9999]], np.uint16).repeat(8, 0).repeat(8, 1)
    for sequence in ('seq-01', 'seq-02'):
        for number in range(2):
            save_png(
                tmp_path / f'chess/{sequence}/frame-{number:06d}.color.png', random_image(np.random.default_rng(0), (16, 24))
            )
            save_png(tmp_path / f'chess/{sequence}/frame-{number:06d}.depth.png', depth)
            (tmp_path / f'chess/{sequence}/frame-{number:06d}.pose.txt').write_text('1 0 0 0\n')
    (tmp_path / 'chess/dataset.json').write_text(description)
    assert json.loads(description)['labels']['depth']['ignore'] == [65535]
    opened, _ = open_source('folders', tmp_path / 'chess', dict(train='seq-01', val='seq-02'))
    expected = np.where(depth == 65535, 0, depth) / 1000
    for dataset in opened.values():
        assert dataset.stems == ['frame-000000', 'frame-000001']
        np.testing.assert_allclose(dataset.read_sample(0)['gt_depth_map'], expected, rtol=1e-6)
    reports = convert(opened, tmp_path / 'out')
    # What is unknown in the files is not reported as lost.
    assert {name: report.lost for name, report in reports.items()} == dict(train={}, val={})
