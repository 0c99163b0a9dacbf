"""Data sets of mmseg through this project's loader: mmseg's own loading is the oracle for labels."""

import re

import numpy as np
import pytest
from mmengine.dataset import Compose
from PIL import Image

from mtl_plugins.config.load import load_config
from mtl_plugins.datasets.multitask.mmseg_dataset import MMSegDataset
from mtl_plugins.errors import ConfigError, DataNotFoundError
from tests.datasets.layouts import TRAIN_IDS, save_png, write_ade20k
from tests.tiny import EPOCH_CONFIG

# mmsegmentation 1.2 needs the compiled mmcv for them.
pytest.importorskip('mmseg.datasets', exc_type=ModuleNotFoundError)
from mmseg.datasets import ADE20KDataset, CityscapesDataset, PascalVOCDataset
from mmseg.utils import register_all_modules

SIZE = (24, 32)


@pytest.fixture(autouse=True)
def mmseg_classes():
    register_all_modules(init_default_scope=False)


def save_jpeg(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path, quality=95)


def random_ids(count, seed):
    return np.random.default_rng(seed).integers(0, count, SIZE, dtype=np.uint8)


def write_ade(root):
    write_ade20k(root)
    prefix = dict(img_path='images/training', seg_map_path='annotations/training')
    return ADE20KDataset, dict(type='mmseg.ADE20KDataset', data_prefix=prefix), ['ADE_train_00000000', 'ADE_train_00000001']


def write_voc(root):
    for k, name in enumerate(('2007_000032', '2007_000039', '2007_000063')):
        save_jpeg(root / f'JPEGImages/{name}.jpg', k)
        label = Image.fromarray(np.where(random_ids(22, k) == 21, 255, random_ids(21, k)).astype(np.uint8))
        label.putpalette(bytes(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8)))
        (root / 'SegmentationClass').mkdir(exist_ok=True)
        label.save(root / f'SegmentationClass/{name}.png')
    (root / 'ImageSets/Segmentation').mkdir(parents=True)
    (root / 'ImageSets/Segmentation/train.txt').write_text('2007_000063\n2007_000032\n')
    prefix = dict(img_path='JPEGImages', seg_map_path='SegmentationClass')
    config = dict(type='PascalVOCDataset', data_prefix=prefix, ann_file='ImageSets/Segmentation/train.txt')
    return PascalVOCDataset, config, ['2007_000063', '2007_000032']


def write_cityscapes(root):
    for k, stem in enumerate(('ulm/ulm_000000_000019', 'aachen/aachen_000001_000019')):
        save_png(root / f'leftImg8bit/val/{stem}_leftImg8bit.png', np.full((*SIZE, 3), k, np.uint8))
        ids = random_ids(34, k)
        train_ids = np.vectorize(lambda number: TRAIN_IDS.get(number, 255))(ids).astype(np.uint8)
        save_png(root / f'gtFine/val/{stem}_gtFine_labelTrainIds.png', train_ids)
    prefix = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
    config = dict(type='mmseg.CityscapesDataset', data_prefix=prefix, metainfo=dict(classes=('car', 'road')))
    return CityscapesDataset, config, ['aachen/aachen_000001_000019', 'ulm/ulm_000000_000019']


@pytest.mark.parametrize('write', [write_ade, write_voc, write_cityscapes])
def test_samples_are_those_of_mmseg(tmp_path, write):
    kind, config, stems = write(tmp_path)
    arguments = {name: value for name, value in config.items() if name != 'type'}
    theirs = kind(data_root=str(tmp_path), **arguments)
    load = Compose([dict(type='mmseg.LoadImageFromFile'), dict(type='mmseg.LoadAnnotations')])
    ours = MMSegDataset(tmp_path, config)
    assert len(ours) == len(theirs) and ours.stems[:2] == stems
    assert ours.metainfo['classes'] == tuple(theirs.metainfo['classes'])
    assert ours.metainfo['palette'] == [list(colour) for colour in theirs.metainfo['palette']]
    for position in range(len(ours)):
        expected, sample = load(theirs[position]), ours.read_sample(position)
        # Unknown to both, which mmseg leaves in place for a loss that ignores 255 alone.
        label = np.where(expected['gt_seg_map'] < len(theirs.metainfo['classes']), expected['gt_seg_map'], 255)
        np.testing.assert_array_equal(sample['gt_seg_map'], label)
        assert np.abs(sample['img'].astype(int) - expected['img'][..., ::-1]).max() <= 2
        assert len(np.unique(label)) > 2


def test_an_ignored_class(tmp_path):
    _, config, _ = write_voc(tmp_path)
    plain = MMSegDataset(tmp_path, config).read_sample(0)['gt_seg_map']
    label = MMSegDataset(tmp_path, dict(config, ignore_index=0)).read_sample(0)['gt_seg_map']
    np.testing.assert_array_equal(label, np.where(plain == 0, 255, plain))


def write_config(path, config, data_root):
    # As a user would: one entry per loader, the rest from the joint model.
    dataset = dict(_delete_=True, type='MMSegDataset', data_root=str(data_root), dataset=config)
    load, pack = dict(type='LoadLabelledImage'), dict(type='PackMultiTaskInputs')
    crop = dict(type='RandomHomography', crop_size=16)
    path.write_text(
        f"""_base_ = ['{EPOCH_CONFIG}']
model = dict(tasks=dict(_delete_=True, semseg=dict(type='SemSegTask')), task_balancing=dict(_delete_=True, type='FixedWeights'))
train_dataloader = dict(batch_size=2, dataset={dict(dataset, pipeline=[load, crop, pack])})
val_dataloader = dict(dataset={dict(dataset, pipeline=[load, pack], test_mode=True)})
test_dataloader = val_dataloader
"""
    )
    return load_config(str(path))


def test_the_number_of_classes_flows_into_the_model_without_the_files(tmp_path):
    """VOC of mmseg cannot even be built without its files."""
    for kind, count in (('PascalVOCDataset', 21), ('mmseg.ADE20KDataset', 150)):
        config = write_config(tmp_path / 'config.py', dict(type=kind, ann_file='nowhere'), tmp_path / 'nowhere')
        assert config.model.tasks.semseg.num_classes == count
        assert len(config.model.data_preprocessor.labels.semseg.classes) == count
        assert config.val_evaluator.tasks == config.train_dataloader.dataset.tasks == ['semseg']


@pytest.mark.parametrize(
    ('config', 'error', 'message'),
    [
        (dict(type='Nowhere'), ConfigError, 'should be a data set of mmseg, such as ADE20KDataset'),
        (dict(type='mmseg.LEVIRCDDataset'), ValueError, 'should be a data set of images with one class map each'),
        (dict(type='ADE20KDataset', pipeline=[]), ValueError, '`pipeline` should be given to MMSegDataset, not to `dataset`'),
        (dict(type='BaseSegDataset'), ValueError, '`dataset.metainfo` of BaseSegDataset has no `classes`'),
        (dict(type='ADE20KDataset', suffix=''), ConfigError, 'has no argument `suffix`. Did you mean `img_suffix`?'),
        (dict(type='PascalVOCDataset'), ConfigError, '`ann_file`, which PascalVOCDataset of mmseg needs'),
        (dict(type='NYUDataset'), ValueError, 'should list its files as mmseg does, by `data_prefix`'),
    ],
)
def test_what_cannot_work_is_one_sentence(tmp_path, config, error, message):
    with pytest.raises(error, match=re.escape(message)):
        MMSegDataset(tmp_path, config)


def test_missing_labels_and_data_without_any(tmp_path):
    _, config, _ = write_ade(tmp_path)
    (tmp_path / 'annotations/training/ADE_train_00000001.png').unlink()
    with pytest.raises(DataNotFoundError, match=r'ADE_train_00000001\.png. does not exist'):
        MMSegDataset(tmp_path, config)
    # A prefix may be a path of its own.
    unlabelled = MMSegDataset(tmp_path / 'annotations', dict(config, data_prefix=dict(img_path=f'{tmp_path}/images/training')))
    assert list(unlabelled.read_sample(1)) == ['img']
