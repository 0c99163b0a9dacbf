"""Folders as people have them: one command describes and trains them, and says what it guessed and why."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.cli import main
from mtl_plugins.cli import train as train_command
from mtl_plugins.cli.data_inspect import format_description
from mtl_plugins.config.load import find_config_file, load_config
from mtl_plugins.datasets.inspection import guess_folder
from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.errors import ConfigError, DataNotFoundError, SplitNotFoundError
from mtl_plugins.labels.cityscapes_classes import CLASSES, LABEL_IDS, PALETTE
from mtl_plugins.labels.surface_normals import encode_normals
from tests.datasets.layouts import write_cityscapes, write_nyuv2_arrays
from tests.fake_folders import write_fake_folders
from tests.tools.conftest import Ended

SIZE = (32, 64)
RNG = np.random.default_rng(0)


def _write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npy':
        np.save(path, array)
    elif isinstance(array, Image.Image):
        array.save(path)
    else:
        cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def _image():
    return RNG.integers(0, 256, (*SIZE, 3), np.uint8)


def _ids(low, high):
    return RNG.integers(low, high, SIZE, np.uint8)


def _rare_zero(number):
    """Ids of which 0 is rare."""
    return np.where(RNG.random(SIZE) < 0.03, 0, _ids(1, number + 1)).astype(np.uint8)


def _millimetres():
    return RNG.integers(500, 5000, SIZE).astype(np.uint16)


def _class_map(path, classes, **settings):
    return dict(type='ClassMap', path=path, classes=classes) | settings


def _depth_map(path, **settings):
    return dict(type='DepthMap', path=path, encoding='metres') | settings


# Each writes a folder and returns the content that its `dataset.json` should get, but for `depth_range`.


def grey_from_one(root):
    """Grey ids from 1, 0 unlabelled; images and labels by split, no test split."""
    for split, number in (('train', 4), ('val', 2)):
        for k in range(number):
            _write(root / f'images/{split}/img {k}.png', _image())
            _write(root / f'annotations/{split}/img {k}.png', _rare_zero(3))
    names = ['class_1', 'class_2', 'class_3']
    semseg = _class_map('annotations/{split}/{stem}.png', names, reduce_zero_label=True)
    return dict(image='images/{split}/{stem}.png', labels=dict(semseg=semseg))


def millimetres_and_classes(root):
    """One folder for each kind of file, no splits; 16-bit depth in millimetres."""
    for k in range(11):
        _write(root / f'rgb/{k}.png', _image())
        _write(root / f'depth/{k}.png', _millimetres())
        _write(root / f'seg/{k}.png', _ids(0, 3))
    semseg = _class_map('seg/{stem}.png', ['class_0', 'class_1', 'class_2'])
    return dict(
        image='rgb/{stem}.png', val_every=5, labels=dict(semseg=semseg, depth=_depth_map('depth/{stem}.png', scale=0.001))
    )


def metres_in_arrays(root):
    """Depth alone, as arrays, beside the images of a folder that is called training."""
    for k in range(12):
        _write(root / f'training/{k}_rgb.png', _image())
        _write(root / f'training/{k}_depth.npy', RNG.uniform(1, 9, SIZE).astype(np.float32))
    layout = dict(image='{split}/{stem}_rgb.png', splits=dict(train='training'), val_every=6)
    return layout | dict(labels=dict(depth=_depth_map('{split}/{stem}_depth.npy')))


def voc_lists(root):
    """VOC's lists of names, with spaces; palette PNG, 255 ignored, instances beside the classes."""
    for split, number in (('train', 4), ('val', 2)):
        names = [f'{split} {k}' for k in range(number)]
        _write(root / f'JPEGImages/{split}.jpg', _image())
        for name in names:
            _write(root / f'JPEGImages/{name}.jpg', _image())
            picture = Image.fromarray(np.where(_ids(0, 9) == 0, 255, _ids(0, 3)).astype(np.uint8), 'P')
            picture.putpalette(RNG.integers(0, 256, 768, np.uint8).tobytes())
            for folder in ('SegmentationClass', 'SegmentationObject'):
                _write(root / f'{folder}/{name}.png', picture)
        lists = root / 'ImageSets/Segmentation'
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f'{split}.txt').write_text('\n'.join(names))
    semseg = _class_map('SegmentationClass/{stem}.png', ['class_0', 'class_1', 'class_2'])
    return dict(image='JPEGImages/{stem}.jpg', split_file='ImageSets/Segmentation/{split}.txt', labels=dict(semseg=semseg))


def colours_with_suffixes(root):
    """CamVid's kind: RGB colours of which black is rare, labels named by a suffix, splits with a folder each."""
    colours = np.uint8([[0, 0, 0], [0, 0, 128], [0, 128, 0], [128, 0, 0]])
    for split, number in (('train', 4), ('val', 2)):
        for k in range(number):
            _write(root / f'{split}/{k}.png', _image())
            _write(root / f'{split}_labels/{k}_L.png', colours[_rare_zero(3)])
    names = ['class_0', 'class_1', 'class_2']
    semseg = _class_map('{split}_labels/{stem}_L.png', names, colours=colours[1:].tolist(), ignore=[[0, 0, 0]])
    return dict(image='{split}/{stem}.png', labels=dict(semseg=semseg))


def carvana_masks(root):
    """Carvana's: black-and-white GIF masks, and a test split without any."""
    for split in ('train', 'test'):
        for k in range(6):
            _write(root / f'{split}/{k:03x}a_{k:02d}.jpg', _image())
            if split == 'train':
                mask = Image.fromarray(_ids(0, 2), 'P')
                mask.putpalette([0, 0, 0, 255, 255, 255])
                _write(root / f'train_masks/{k:03x}a_{k:02d}_mask.gif', mask)
    semseg = _class_map('{split}_masks/{stem}_mask.gif', ['background', 'object'])
    return dict(image='{split}/{stem}.jpg', val_every=3, labels=dict(semseg=semseg))


def ade20k_names(root):
    """ADE20K's: training and validation, 0 unlabelled, a table of names by id."""
    for split, number in (('training', 4), ('validation', 2)):
        for k in range(number):
            _write(root / f'images/{split}/ADE_train_{k:08d}.jpg', _image())
            _write(root / f'annotations/{split}/ADE_train_{k:08d}.png', _ids(0, 5))
    rows = ['1\t0.16\t11664\twall', '2\t0.12\t6046\tbuilding, edifice', '3\t0.1\t8265\tsky', '4\t0.1\t9336\tfloor, flooring']
    (root / 'objectInfo150.txt').write_text('\n'.join(['Idx\tRatio\tTrain\tName', *rows]))
    names = ['wall', 'building', 'sky', 'floor']
    semseg = _class_map('annotations/{split}/{stem}.png', names, reduce_zero_label=True)
    splits = dict(train='training', val='validation')
    return dict(image='images/{split}/{stem}.jpg', splits=splits, labels=dict(semseg=semseg))


def sunrgbd_shifted(root):
    """SUN RGB-D's: depth in millimetres that are shifted by three bits, and classes."""
    for k in range(6):
        _write(root / f'image/img-{k:06d}.jpg', _image())
        _write(root / f'depth/img-{k:06d}.png', _millimetres() * np.uint16(8))
        _write(root / f'label/img-{k:06d}.png', _ids(0, 3))
    semseg = _class_map('label/{stem}.png', ['class_0', 'class_1', 'class_2'])
    depth = _depth_map('depth/{stem}.png', scale=0.000125)
    return dict(image='image/{stem}.jpg', val_every=3, labels=dict(semseg=semseg, depth=depth))


TRAINED = [
    *(grey_from_one, millimetres_and_classes, metres_in_arrays, voc_lists, colours_with_suffixes),
    *(carvana_masks, ade20k_names, sunrgbd_shifted),
]


def masks_in_one_folder(root):
    """Images, masks of 0 and 255 and pictures of no use in one folder, by suffix, all PNG."""
    for k in range(6):
        _write(root / f'{k:03d}.png', _image())
        _write(root / f'{k:03d}_mask.png', _ids(0, 2) * np.uint8(255))
        _write(root / f'{k:03d}_overlay.png', _image())
    semseg = _class_map('{stem}_mask.png', ['background', 'object'], mapping={'0': 0, '255': 1})
    return dict(image='{stem}.png', stem='(?!.*(?:_mask|_overlay)$).+', val_every=3, labels=dict(semseg=semseg))


def one_bit(root):
    """Masks of one bit, and prefixes."""
    for k in range(6):
        _write(root / f'images/photo_{k}.jpg', _image())
        _write(root / f'masks/mask_{k}.png', Image.fromarray(_ids(0, 2) > 0))
    semseg = _class_map('masks/mask_{stem}.png', ['background', 'object'])
    return dict(image='images/photo_{stem}.jpg', val_every=3, labels=dict(semseg=semseg))


def gaps_in_ids(root):
    """Ids of which most are absent, and COCO's folders."""
    for split in ('train2017', 'val2017'):
        for k in range(3):
            _write(root / f'images/{split}/{k:012d}.jpg', _image())
            _write(root / f'annotations/stuff_{split}_pixelmaps/{k:012d}.png', np.uint8([92, 117, 182])[_ids(0, 3)])
    names, mapping = ['class_92', 'class_117', 'class_182'], {'92': 0, '117': 1, '182': 2}
    semseg = _class_map('annotations/stuff_{split}_pixelmaps/{stem}.png', names, mapping=mapping)
    splits = dict(train='train2017', val='val2017')
    return dict(image='images/{split}/{stem}.jpg', splits=splits, labels=dict(semseg=semseg))


def table_of_colours(root):
    """A table names the colours, one of which is void; RGB with alpha."""
    colours = np.uint8([[0, 0, 0, 255], [12, 200, 3, 255], [255, 0, 100, 255]])
    for k in range(6):
        _write(root / f'ds/img/{k}a.jpg', _image())
        _write(root / f'ds/masks_human/{k}a.png', Image.fromarray(colours[_ids(0, 3)], 'RGBA'))
    (root / 'class_dict.csv').write_text('name,r,g,b\nCat,12,200,3\nRoad marking,255,0,100\nVoid,0,0,0\n')
    named = dict(colours=[[12, 200, 3], [255, 0, 100]], ignore=[[0, 0, 0]])
    semseg = _class_map('ds/masks_human/{stem}.png', ['Cat', 'Road marking'], **named)
    return dict(image='ds/img/{stem}.jpg', val_every=3, labels=dict(semseg=semseg))


def sequences(root):
    """7-Scenes': folders of frames, 65535 for unknown depth."""
    for number in range(2):
        for k in range(3):
            _write(root / f'seq-0{number}/frame-{k:06d}.color.png', _image())
            _write(
                root / f'seq-0{number}/frame-{k:06d}.depth.png',
                np.where(RNG.random(SIZE) < 0.1, 65535, _millimetres()).astype('u2'),
            )
    depth = _depth_map('{stem}.depth.png', ignore=[65535], scale=0.001)
    return dict(image='{stem}.color.png', val_every=3, labels=dict(depth=depth))


def cityscapes(root):
    """The official folders, with a folder for each city."""
    write_cityscapes(root)
    known = dict(palette=[list(each) for each in PALETTE], mapping={str(each): k for k, each in enumerate(LABEL_IDS)})
    semseg = _class_map('gtFine/{split}/{stem}_gtFine_labelIds.png', list(CLASSES), **known)
    camera = dict(encoding='disparity', camera='camera/{split}/{stem}_camera.json', within_range=True)
    depth = _depth_map('disparity/{split}/{stem}_disparity.png', **camera)
    return dict(image='leftImg8bit/{split}/{stem}_leftImg8bit.png', labels=dict(semseg=semseg, depth=depth))


def nyuv2_arrays(root):
    """LibMTL's arrays: images of floating point, ids with -1, depth, normals."""
    write_nyuv2_arrays(root)
    semseg = _class_map('{split}/label/{stem}.npy', [f'class_{k}' for k in range(13)])
    normals = dict(type='SurfaceNormals', path='{split}/normal/{stem}.npy')
    labels = dict(semseg=semseg, depth=_depth_map('{split}/depth/{stem}.npy'), normals=normals)
    return dict(image='{split}/image/{stem}.npy', labels=labels)


def normals_in_pictures(root):
    """Normals as RGB codes, black where they are unknown, beside an image for show."""
    for k in range(6):
        _write(root / f'rgb/{k}.jpg', _image())
        codes = encode_normals(RNG.normal(size=(*SIZE, 3)).astype(np.float32))
        codes[:2] = 0
        _write(root / f'normal/{k}.png', codes)
        _write(root / f'overlay/{k}.png', _image())
    return dict(image='rgb/{stem}.jpg', val_every=3, labels=dict(normals=dict(type='SurfaceNormals', path='normal/{stem}.png')))


OTHERS = [masks_in_one_folder, one_bit, gaps_in_ids, table_of_colours, sequences, cityscapes, nyuv2_arrays, normals_in_pictures]


@pytest.fixture
def run_mtl(capsys):
    """``run_mtl('data', 'inspect', ...)`` gives how the command ended."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(list(map(str, arguments)))
        return Ended(caught.value.code, *capsys.readouterr())

    return run


@pytest.mark.parametrize('write', [*TRAINED, *OTHERS], ids=lambda write: write.__name__)
def test_a_folder_is_described(tmp_path, write):
    expected = write(tmp_path)
    guess = guess_folder(tmp_path)
    found = json.loads(format_description(guess.description))
    assert found == guess.description
    depth = found['labels'].get('depth')
    if depth:
        low, high = depth.pop('depth_range')
        assert 0.5 <= low <= 4 < high <= 300
    found['stem'] = found.get('stem')
    assert found == dict(stem=None) | expected
    told = ' '.join(guess.reasons)
    assert all(f'labels.{name}: {label["path"]}' in told for name, label in expected['labels'].items())
    for split in ('train', 'val'):
        (tmp_path / 'dataset.json').write_text(json.dumps(guess.description))
        sample = MiniScapesDataset(tmp_path, split, tasks=list(expected['labels'])).read_sample(0)
        assert len(sample) == 1 + len(expected['labels'])


@pytest.mark.parametrize(
    ('folder', 'type_'), [('normals', 'SurfaceNormals'), ('cam_normal', 'SurfaceNormals'), ('normalised', None)]
)
def test_normals_in_exr_are_known_by_their_name(tmp_path, folder, type_):
    for k in range(3):
        _write(tmp_path / f'rgb/{k}.jpg', _image())
        _write(tmp_path / f'mask/{k}.png', _ids(0, 3))
        (tmp_path / folder).mkdir(exist_ok=True)
        # No EXR: what is taken for depth is read, and left out.
        (tmp_path / folder / f'{k}.exr').write_bytes(b'exr')
    labels = guess_folder(tmp_path).description['labels']
    assert labels.get('normals', {}).get('type') == type_ and list(labels)[:1] == ['semseg']


@pytest.mark.parametrize('write', TRAINED, ids=lambda write: f'{write.__name__}-1_command-0_edited_files')
def test_trains_from_a_folder(tmp_path, run_cli, tiny_config_file, write):
    write(tmp_path / 'data')
    ended = run_cli(
        *('train', tiny_config_file, '--data', tmp_path / 'data', '--out', tmp_path / 'run', '--epochs', 1, '--no-submission'),
        *('--cfg-options', 'log_level=WARNING'),
    ).check()
    assert f'Wrote {tmp_path}/data/dataset.json' in ended.out
    assert cv2.imread(str(tmp_path / 'data/dataset_samples.png')) is not None
    assert list((tmp_path / 'run').glob('*.pth')) and cv2.imread(str(tmp_path / 'run/first_batch.jpg')) is not None


def test_what_is_left_open_is_chosen(tmp_path, run_cli, monkeypatch, tiny_config_file):
    write = tmp_path / 'rooms'
    millimetres_and_classes(write)
    for name in ('PRETRAINED', 'RANDOM'):
        assert find_config_file(getattr(train_command, name))
        monkeypatch.setattr(train_command, name, str(tiny_config_file))
    monkeypatch.chdir(tmp_path)
    ended = run_cli('train', '--data', write, '--epochs', 1, '--no-submission', '--cfg-options', 'log_level=WARNING').check()
    chosen = f'--data-root {write} --batch-size 4 --epochs 1 --size 32x64 --out work_dirs/rooms'
    assert f'The same by hand: mtl train {tiny_config_file} {chosen}' in ended.out
    assert list((tmp_path / 'work_dirs/rooms').glob('*.pth'))


def normals_alone(root):
    """Images and vectors."""
    for k in range(3):
        _write(root / f'image/{k}.png', _image())
        _write(root / f'normal/{k}.npy', RNG.normal(size=(*SIZE, 3)).astype(np.float32))


@pytest.mark.parametrize('name', [train_command.PRETRAINED, train_command.RANDOM])
@pytest.mark.parametrize(
    ('write', 'learned', 'best'),
    [
        (nyuv2_arrays, ['semseg', 'depth', 'normals'], 'multitask'),
        (millimetres_and_classes, ['semseg', 'depth'], 'multitask'),
        (normals_alone, ['normals'], 'normals'),
    ],
)
def test_every_label_that_is_found_is_learned(tmp_path, name, write, learned, best):
    write(tmp_path)
    (tmp_path / 'dataset.json').write_text(json.dumps(guess_folder(tmp_path).description))
    config = load_config(name, data_root=tmp_path)
    assert list(config.model.tasks) == learned == config.train_dataloader.dataset.tasks == config.val_evaluator.tasks
    assert list(config.model.get('task_balancing', dict(weights=learned))['weights']) == learned
    assert config.default_hooks.checkpoint.save_best == f'metrics_summary/{best}'


def test_a_description_that_is_there_is_kept(tmp_path, run_mtl):
    grey_from_one(tmp_path)
    run_mtl('data', 'inspect', tmp_path).check()
    path = tmp_path / 'dataset.json'
    path.write_text(path.read_text().replace('class_2', 'lawn'))
    ended = run_mtl('data', 'inspect', tmp_path).check()
    assert 'lawn' in ended.out and 'lawn' in path.read_text() and '--force' in ended.out
    run_mtl('data', 'inspect', tmp_path, '--force').check()
    assert 'lawn' not in path.read_text()
    run_mtl('data', 'inspect', tmp_path, '--out', path).check_refused('dataset.json exists', '--force')


def test_a_description_without_paths_is_shown(tmp_path, run_mtl):
    ended = run_mtl('data', 'inspect', write_fake_folders(tmp_path / 'rooms')).check()
    assert 'images: train 3, val 2, 80x48' in ended.out and '5 of 5 classes' in ended.out and 'depth: ' in ended.out


def test_what_is_odd_is_named(tmp_path, run_mtl):
    millimetres_and_classes(tmp_path)
    (tmp_path / 'seg/3.png').unlink()
    _write(tmp_path / 'rgb/4.png', _image()[:16])
    _write(tmp_path / 'seg/7.png', np.full(SIZE, 9, np.uint8))
    ended = run_mtl('data', 'inspect', tmp_path).check()
    for words in ('1 of 11 images have no semseg, such as 3', 'ids have gaps, 0, 1, 2, 9', 'Found 64x32'):
        assert words in ended.out
    assert json.loads((tmp_path / 'dataset.json').read_text())['missing_labels'] == ['semseg']


def test_a_folder_that_cannot_be_described(tmp_path, run_mtl):
    run_mtl('data', 'inspect', tmp_path / 'absent').check_refused('absent', 'does not exist')
    with pytest.raises(DataNotFoundError, match='No images in'):
        guess_folder(tmp_path)
    for k in range(4):
        _write(tmp_path / f'images/{k}a.jpg', _image())
        _write(tmp_path / f'masks/{k}a.jpg', _ids(0, 2) * np.uint8(255))
    with pytest.raises(DataNotFoundError, match=r'Found 8 files: photo in images.* JPEG files cannot be labels'):
        guess_folder(tmp_path)
    assert run_mtl('train').code == 2
    assert run_mtl('train', '--data', tmp_path, '--data-root', tmp_path).code == 2
    assert not (tmp_path / 'dataset.json').exists()


def test_validation_images_by_name(tmp_path):
    description = millimetres_and_classes(tmp_path)
    del description['val_every'], description['labels']['depth']
    (tmp_path / 'dataset.json').write_text(json.dumps(description))
    assert MiniScapesDataset(tmp_path, 'val').stems == ['0', '10']
    assert MiniScapesDataset(tmp_path, 'train').stems == [str(k) for k in range(1, 10)]
    with pytest.raises(SplitNotFoundError, match=r'`image` in .* has no \{split\}'):
        MiniScapesDataset(tmp_path, 'test')
    (tmp_path / 'dataset.json').write_text(json.dumps(description | dict(val_every=1)))
    with pytest.raises(ConfigError, match=r'`val_every` .* from 2\. Found 1'):
        MiniScapesDataset(tmp_path, 'val')


@pytest.mark.parametrize('stem', [r'(\d+)+', r'(?:a|\d)*x', '.*.*.*.*', 'a?' * 9, r'(?x)(a+) +', r'(\d+)(?#)*', r'([)]+){9}'])
def test_a_pattern_of_names_that_may_take_forever_is_refused(tmp_path, stem):
    description = millimetres_and_classes(tmp_path)
    (tmp_path / 'dataset.json').write_text(json.dumps(description | dict(stem=stem)))
    with pytest.raises(ConfigError, match='should be a simple regular expression'):
        MiniScapesDataset(tmp_path, 'val')


def test_a_pattern_of_names_chooses_images(tmp_path):
    description = millimetres_and_classes(tmp_path)
    del description['val_every']
    (tmp_path / 'dataset.json').write_text(json.dumps(description | dict(stem=r'(?!0|5)(?:1[)0]|[^)]+)')))
    assert MiniScapesDataset(tmp_path, 'val').stems == ['1']
    assert MiniScapesDataset(tmp_path, 'train').stems == [*'2346789', '10']
