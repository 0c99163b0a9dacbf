"""Tiny data sets of random content in the layouts of the official downloads."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

# Cityscapes' published table: class by id, what is not evaluated left out.
TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16,
    32: 17, 33: 18,
}  # fmt: skip
BASELINE, FOCAL = 0.209313, 2262.52
FRAMES = dict(
    train=('aachen/aachen_000000_000019', 'aachen/aachen_000001_000019', 'ulm/ulm_000000_000019', 'ulm/ulm_000002_000019'),
    val=('lindau/lindau_000000_000019', 'munster/munster_000003_000019'),
    test=('berlin/berlin_000000_000019',),
)


def expect(error, *words):
    """One sentence that names everything in ``words``."""
    return pytest.raises(error, match='.*'.join(re.escape(str(word)) for word in words))


def save_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """PIL turns an array as it would turn a picture."""
    image = Image.fromarray(array)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def with_orientation(path: Path, orientation: int) -> np.ndarray:
    """Make a file claim an orientation; its pixels stay. Gives the upright picture by PIL."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).copy().save(path, exif=exif, quality=95)
    return np.asarray(ImageOps.exif_transpose(Image.open(path)))


def save_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def random_image(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def write_cityscapes(root: Path, size: tuple[int, int] = (32, 64)) -> Path:
    """The four official folders; the test split has labels that say nothing, and depth like the others."""
    rng = np.random.default_rng(0)
    for split, stems in FRAMES.items():
        for stem in stems:
            save_png(root / f'leftImg8bit/{split}/{stem}_leftImg8bit.png', random_image(rng, size))
            ids = rng.integers(0, 4 if split == 'test' else 34, size, dtype=np.uint8)
            save_png(root / f'gtFine/{split}/{stem}_gtFine_labelIds.png', ids)
            save_png(root / f'gtFine/{split}/{stem}_gtFine_instanceIds.png', ids.astype(np.uint16) * 1000)
            disparity = rng.integers(0, 32258, size, dtype=np.uint16)
            # None, infinitely far, 121 km, 474 m.
            disparity[0, :4] = (0, 1, 2, 257)
            save_png(root / f'disparity/{split}/{stem}_disparity.png', disparity)
            camera = root / f'camera/{split}/{stem}_camera.json'
            camera.parent.mkdir(parents=True, exist_ok=True)
            intrinsic = dict(fx=FOCAL, fy=2265.3, u0=1096.98, v0=513.137)
            camera.write_text(json.dumps(dict(extrinsic=dict(baseline=BASELINE, pitch=0.038), intrinsic=intrinsic)))
    return root


def write_nyuv2_arrays(root: Path, size: tuple[int, int] = (32, 48)) -> Path:
    """LibMTL's folders: float64 images, float labels with -1, depth with an axis of one, unit normals with holes."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        for index in range(count):
            save_npy(root / split / 'image' / f'{index}.npy', random_image(rng, size) / 255)
            save_npy(root / split / 'label' / f'{index}.npy', rng.integers(-1, 13, size).astype(np.float32))
            save_npy(root / split / 'depth' / f'{index}.npy', rng.uniform(0.7, 9.9, (*size, 1)).astype(np.float32))
            normals = rng.normal(size=(*size, 3))
            normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
            normals[:2] = 0
            save_npy(root / split / 'normal' / f'{index}.npy', normals.astype(np.float32))
    return root


def write_nyuv2_mat(root: Path, size: tuple[int, int] = (32, 48), frames: int = 6) -> dict[str, np.ndarray]:
    """MATLAB's files: arrays ``(H, W, 3, N)`` there are ``(N, 3, W, H)`` in HDF5. Gives them as ``(N, H, W, ...)``."""
    import h5py
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    content = dict(
        images=rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8),
        labels=rng.integers(0, 895, (frames, *size), dtype=np.uint16),
        depths=rng.uniform(0.7, 9.9, (frames, *size)).astype(np.float32),
    )
    content['rawDepths'] = np.where(rng.random((frames, *size)) < 0.2, 0, content['depths']).astype(np.float32)
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / 'nyu_depth_v2_labeled.mat', 'w', userblock_size=512) as file:
        for name, array in content.items():
            axes = (0, 3, 2, 1) if array.ndim == 4 else (0, 2, 1)
            file.create_dataset(name, data=array.transpose(axes), compression='gzip')
        file.create_group('#refs#')
    # MATLAB's columns of doubles; frames of both splits are mixed.
    splits = dict(trainNdxs=np.array([[2.0], [3], [5], [6]]), testNdxs=np.array([[1.0], [4]]))
    savemat(root / 'splits.mat', splits)
    content['mapClass'] = rng.permutation(np.arange(894) % 40 + 1)
    savemat(root / 'classMapping40.mat', dict(mapClass=content['mapClass'][None].astype(np.uint8)))
    return content


# The published table of 13 classes, counted from 1, of each of the 40.
CLASS_13_OF_40 = (
    12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5, 7, 3, 2, 6, 11, *[7] * 6, 6, *[7] * 6, 6, 7
)  # fmt: skip


def nyuv2_frames(count: int, size: tuple[int, int], focal: float = 519) -> list[dict]:
    """Frames whose depth is a plane: image, classes by their number with 255 ignored, depth, its normal."""
    rng, normal = np.random.default_rng(0), np.array([0.0, 0.6, 0.8])
    v = np.arange(size[0])[:, None] - 253.7
    depth = np.broadcast_to(2 / (0.6 * v / focal + 0.8), size).astype(np.float32)
    frames = []
    for _ in range(count):
        forty = rng.integers(0, 41, size)
        image = np.full((*size, 3), rng.integers(60, 200, 3), np.uint8)
        thirteen = np.append(CLASS_13_OF_40, 256)[forty] - 1
        classes = {40: np.where(forty == 40, 255, forty).astype(np.uint8), 13: thirteen.astype(np.uint8)}
        frames.append(dict(img=image, depth=depth, normal=normal) | classes)
    return frames


def write_nyuv2_pictures(root: Path, size: tuple[int, int] = (32, 48), **splits: int) -> list[dict]:
    """Folders of pictures, both sets of classes, depth in millimetres; the frames in the order of the splits."""
    frames = nyuv2_frames(sum(splits.values()), size)
    rest = iter(frames)
    for split, count in splits.items():
        # Numbers are those of the whole data set, with gaps.
        for number, frame in zip(range(2, 99, 3), [next(rest) for _ in range(count)], strict=False):
            save_png(root / split / 'rgb' / f'{number}.jpg', frame['img'])
            save_png(root / split / 'depth' / f'{number}.png', (frame['depth'] * 1000).round().astype(np.uint16))
            for classes in (13, 40):
                save_png(root / split / f'semseg{classes}' / f'{number}.png', frame[classes])
    return frames


def write_nyuv2_forms(root: Path) -> list[dict]:
    """Two training frames and a test frame as official files, pictures, arrays, and the two kinds of Parquet files of the Hub."""
    import h5py
    import pyarrow as pa
    import pyarrow.parquet as pq
    from scipy.io import savemat

    frames = write_nyuv2_pictures(root / 'pictures', train=2, test=1)
    official = root / 'mat'
    official.mkdir()
    with h5py.File(official / 'nyu_depth_v2_labeled.mat', 'w') as file:
        file['images'] = np.stack([frame['img'] for frame in frames]).transpose(0, 3, 2, 1)
        file['depths'] = np.stack([frame['depth'] for frame in frames]).transpose(0, 2, 1)
        # 40 names, of which each is its own class, counted from 1.
        ids = np.stack([np.where(frame[40] == 255, 0, frame[40].astype(int) + 1) for frame in frames])
        file['labels'] = ids.transpose(0, 2, 1).astype(np.uint16)
    savemat(official / 'splits.mat', dict(trainNdxs=np.array([[1.0], [2]]), testNdxs=np.array([[3.0]])))
    savemat(official / 'classMapping40.mat', dict(mapClass=np.arange(1, 41)[None]))
    places = [('train', 0), ('train', 1), ('val', 0)]
    rows: dict[str, list] = dict(train=[], val=[])
    for (split, index), frame in zip(places, frames, strict=True):
        thirteen = np.where(frame[13] == 255, -1, frame[13].astype(int))
        normal = np.broadcast_to(frame['normal'] * (1, -1, 1), (*frame['depth'].shape, 3)).astype(np.float32)
        image = (frame['img'] / 255).astype(np.float32)
        for name, array in dict(image=image, label=thirteen, depth=frame['depth'][..., None], normal=normal).items():
            save_npy(root / 'arrays' / split / name / f'{index}.npy', array)
        channels_first = [image.transpose(2, 0, 1), thirteen, frame['depth'][None], normal.transpose(2, 0, 1)]
        names = ('image', 'segmentation', 'depth', 'normal')
        rows[split].append({name: array.tolist() for name, array in zip(names, channels_first, strict=True)})
    one, two, three = (pa.list_(pa.float32()), pa.list_(pa.list_(pa.int64())), pa.list_(pa.list_(pa.list_(pa.float32()))))
    schema = pa.schema([('image', three), ('segmentation', two), ('depth', three), ('normal', three), ('accelData', one)])
    (root / 'parquet_arrays/data').mkdir(parents=True)
    for name, table in dict(train=rows['train'], val=rows['val']).items():
        for shard, row in enumerate(table):
            path = root / f'parquet_arrays/data/{name}-{shard:05d}-of-{len(table):05d}.parquet'
            pq.write_table(pa.Table.from_pylist([row], schema=schema), path)
    for split, some in dict(train=frames[:2], test=frames[2:]).items():
        table = []
        for frame in some:
            label = np.where(frame[40] == 255, 0, frame[40] + 1).astype(np.uint8)
            maps = dict(depth=(frame['depth'] * 1000).round().astype(np.uint16), label=label)
            cells = {name: cv2.imencode('.png', array)[1].tobytes() for name, array in maps.items()}
            cells['image'] = cv2.imencode('.jpg', frame['img'][..., ::-1])[1].tobytes()
            table.append({name: dict(bytes=data, path=None) for name, data in cells.items()} | dict(scene='kitchen'))
        path = root / f'parquet_pictures/default/{split}/0000.parquet'
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(table), path)
    return frames


# `label_colors.txt` of CamVid: the 32 classes with the number of that of SegNet's eleven, 11 for void.
CAMVID_COLOURS = """
64 128 64 Animal 9|192 0 128 Archway 1|0 128 192 Bicyclist 10|0 128 64 Bridge 1|128 0 0 Building 1|64 0 128 Car 8
64 0 192 CartLuggagePram 9|192 128 64 Child 9|192 192 128 Column_Pole 2|64 64 128 Fence 7|128 0 192 LaneMkgsDriv 3
192 0 64 LaneMkgsNonDriv 3|128 128 64 Misc_Text 6|192 0 192 MotorcycleScooter 10|128 64 64 OtherMoving 8
64 192 128 ParkingBlock 4|64 64 0 Pedestrian 9|128 64 128 Road 3|128 128 192 RoadShoulder 4|0 0 192 Sidewalk 4
192 128 128 SignSymbol 6|128 128 128 Sky 0|64 128 192 SUVPickupTruck 8|0 0 64 TrafficCone 2|0 64 64 TrafficLight 6
192 64 128 Train 8|128 128 0 Tree 5|192 128 192 Truck_Bus 8|64 0 64 Tunnel 1|192 192 0 VegetationMisc 5|0 0 0 Void 11
64 192 0 Wall 1
"""
CAMVID_FRAMES = dict(
    train=('0001TP_006690', '0001TP_008520', '0006R0_f00930', '0016E5_07920'),
    val=('0016E5_07959', '0016E5_08159'),
    test=('Seq05VD_f00000', '0001TP_008550'),
)


def write_camvid(root: Path, form: str = 'pictures', size: tuple[int, int] = (36, 48)) -> dict[str, np.ndarray]:
    """Tiny frames as ``pictures``, as ``segnet`` offers them or as the ``original``; the classes of each, 11 for void."""
    rng = np.random.default_rng(0)
    rows = [row.split() for row in CAMVID_COLOURS.strip().replace('\n', '|').split('|')]
    colours = np.uint8([row[:3] for row in rows])
    classes = np.uint8([row[4] for row in rows])
    frames = {}
    for split, names in CAMVID_FRAMES.items():
        for name in names:
            detail, image = rng.integers(0, len(rows), size), random_image(rng, size)
            frames[name] = classes[detail]
            if form == 'original':
                coloured = colours[detail]
                # Edges in one of its files are mixed with others.
                coloured[0, :2], frames[name][0, :2] = (26, 26, 26), 11
                save_png(root / '701_StillsRaw_full' / f'{name}.png', image)
                save_png(root / 'LabeledApproved_full' / f'{name}_L.png', coloured)
                continue
            has_folders = form == 'pictures'
            save_png(root / split / (f'rgb/{name}.jpg' if has_folders else f'{name}.png'), image)
            save_png(root / (f'{split}/semseg' if has_folders else f'{split}annot') / f'{name}.png', frames[name])
    return frames


def write_ade20k(root: Path, size: tuple[int, int] = (24, 32)) -> None:
    """ADE20K's folders, with four training samples."""
    rng = np.random.default_rng(0)
    for number, split in enumerate(('training',) * 4 + ('validation',) * 2):
        image = root / f'images/{split}/ADE_train_{number:08d}.jpg'
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_image(rng, size)).save(image, quality=95)
        save_png(root / f'annotations/{split}/ADE_train_{number:08d}.png', rng.integers(0, 151, size, dtype=np.uint8))
