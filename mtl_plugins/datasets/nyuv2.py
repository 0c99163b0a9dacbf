"""NYU Depth V2 as the arrays that papers on multi-task learning share, and from its official MATLAB files."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.datasets.loading.labelled_dataset import LabelledDataset
from mtl_plugins.datasets.multitask.miniscapes import MultiTaskDataset
from mtl_plugins.errors import ArgumentError, CorruptFileError, DataNotFoundError, check_choice
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.presets import DESCRIPTION, miniscapes_labels
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.data_files import import_extra, refusing

# In the order of Gupta et al. (CVPR 2013, `classMapping40.mat`), whose numbers start at 1.
# fmt: off
CLASSES_40 = (
    'wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf', 'picture', 'counter', 'blinds',
    'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror', 'floor mat', 'clothes', 'ceiling', 'books', 'refrigerator',
    'television', 'paper', 'towel', 'shower curtain', 'box', 'whiteboard', 'person', 'night stand', 'toilet', 'sink', 'lamp',
    'bathtub', 'bag', 'other structure', 'other furniture', 'other prop',
)

# In the order of Couprie et al. (arXiv 1301.3572, `class13Mapping.mat`), whose numbers start at 1.
CLASSES_13 = (
    'bed', 'books', 'ceiling', 'chair', 'floor', 'furniture', 'objects', 'picture', 'sofa', 'table', 'tv', 'wall', 'window',
)

# `class13Mapping.mat`, from 0: the class of 13 of each of the 40.
CLASS_13_OF_40 = (
    11, 4, 5, 0, 3, 8, 9, 11, 12, 5, 7, 5, 12, 9, 5, 12, 5, 6, 6, 4, 6, 2, 1, 5, 10, 6, 6, 6, 6, 6, 6, 5, 6, 6, 6, 6, 6, 6, 5, 6,
)
# fmt: on

DEPTH_RANGE = (0.5, 10.0)
NORMAL_AXES = ('x', '-y', 'z')
# Of the colour camera, for 480x640 pixels, from the toolbox of the data set.
CAMERA = dict(focal=(518.8579, 519.4696), centre=(325.5824, 253.7362))


def _classes(num_classes: int) -> tuple[str, ...]:
    if num_classes not in (40, 13):
        raise ArgumentError(f'`num_classes` should be 40 or 13. Found {num_classes!r}.')
    return CLASSES_40 if num_classes == 40 else CLASSES_13


def _fitted_normals(config: Mapping[str, Any], **depth: Any) -> dict[str, dict]:
    window = config.get('fit_normals')
    return dict(normals=dict(type='NormalsFromDepth', window=window, **CAMERA, **depth)) if window else {}


def _find_split(root: str | Path, split: str) -> str:
    """The name of the folder of a split: of ``val`` and ``test`` the one that exists."""
    other = dict(val='test', test='val').get(split)
    return other if other and not Path(root, split).is_dir() and Path(root, other).is_dir() else split


@DATASETS.register_module()
class NYUv2Dataset(MultiTaskDataset):
    """NYU Depth V2 (Silberman et al., ECCV 2012) in folders: indoor scenes with 13 or 40 classes, depth and normals.

    Which form it is follows from the folders below ``{split}``:

    * ``image/<index>.npy``: arrays, 288x384, as MTAN (arXiv 1803.10704) prepared and LibMTL reads them; 13 classes only. Images
      ``(H, W, 3)`` on 0..1, ``label`` ``(H, W)`` with -1 ignored (``segmentation`` where ``mtl data unpack-parquet`` wrote them),
      ``depth`` ``(H, W, 1)`` in metres, ``normal`` ``(H, W, 3)``, zero where unknown.
    * ``rgb/<index>.jpg``: pictures, 480x640, with ``semseg13/<index>.png`` and ``semseg40/<index>.png`` (classes from 0, 255
      ignored) and ``depth/<index>.png`` (16-bit millimetres).
    * ``image/<index>.jpg``: pictures as ``mtl data unpack-parquet`` writes them, with ``label/<index>.png`` (40 classes from 1, 0
      ignored) and ``depth/<index>.png`` as above.
    * a folder of ``mtl data convert``, of any size, with the classes that its ``dataset.json`` names.

    The normals of arrays come from Eigen and Fergus (arXiv 1411.4734). That they point right, down and towards the camera follows
    from MTAN's mirroring and from 2D-3D-S (arXiv 1702.01105), not from the files: with the right ``axes`` of ``labels`` floors
    are drawn green and ceilings are not, walls to the left of the camera red, and what faces it blue. A wrong sign harms no score
    without tilted views.

    Args:
        data_root: Folder that holds the splits.
        split: ``'train'``, or ``'val'`` or ``'test'`` for the test frames, whichever folder there is.
        num_classes: 13 or 40.
        fit_normals: Side of the window for ``'normals'`` of pictures, which are planes fitted to their depth: coarse, see
            :class:`~mtl_plugins.labels.normals_from_depth.NormalsFromDepth`. 9, or 25 for copies whose depth was 8-bit; 0 offers
            none.
        tasks: Of ``'semseg'``, ``'depth'`` and, where there are any, ``'normals'``.
        **kwargs: As :class:`MultiTaskDataset`, whose errors it raises.
    """

    def __init__(self, data_root: str | Path, split: str = 'train', num_classes: int = 13, fit_normals: int = 0, **kwargs: Any):
        config = dict(kwargs, data_root=data_root, split=split, num_classes=num_classes, fit_normals=fit_normals)
        kwargs['labels'] = self.offered_labels(config)
        kwargs['image'] = kwargs.get('image') or self._find_layout(config)[0]
        super().__init__(data_root, _find_split(data_root, split), **kwargs)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        return config.get('labels') or cls._find_layout(config)[1]

    @staticmethod
    def _find_layout(config: Mapping[str, Any]) -> tuple[str, dict[str, dict]]:
        """The template of the images and the labels of the form that the folders have; that of arrays without any folder."""
        root, num_classes = config.get('data_root') or '', config.get('num_classes', 13)
        classes, folder = _classes(num_classes), Path(root, _find_split(root, config.get('split', 'train')))
        if (Path(root) / DESCRIPTION).exists():
            labels = miniscapes_labels(root)
            found = labels.get('semseg', {}).get('classes', classes)
            if list(found) != list(classes):
                raise ArgumentError(f"`num_classes` should be {len(found)} for '{root}', as converted. Found {num_classes}.")
            return '{split}/rgb/{stem}.jpg', labels
        depth = dict(type='DepthMap', encoding='metres', depth_range=DEPTH_RANGE)
        if (folder / 'rgb').is_dir() or any((folder / 'label').glob('*.png')):
            scaled = dict(encoding='metres', path='{split}/depth/{stem}.png', scale=0.001)
            semseg, image = dict(path=f'{{split}}/semseg{num_classes}/{{stem}}.png'), '{split}/rgb/{stem}.jpg'
            if not (folder / 'rgb').is_dir():
                numbers = range(40) if num_classes == 40 else CLASS_13_OF_40
                semseg = dict(path='{split}/label/{stem}.png', mapping={old + 1: new for old, new in enumerate(numbers)})
                image = '{split}/image/{stem}.jpg'
            labels = dict(semseg=dict(type='ClassMap', classes=classes, **semseg), depth=depth | scaled)
            return image, labels | _fitted_normals(config, **scaled)
        if num_classes != 13 and folder.is_dir():
            raise ArgumentError(f"`num_classes` should be 13 for the arrays in '{folder}'. Found {num_classes}.")
        name = 'segmentation' if (folder / 'segmentation').is_dir() else 'label'
        return '{split}/image/{stem}.npy', dict(
            semseg=dict(type='ClassMap', classes=classes, path=f'{{split}}/{name}/{{stem}}.npy'),
            depth=dict(depth, path='{split}/depth/{stem}.npy'),
            normals=dict(type='SurfaceNormals', path='{split}/normal/{stem}.npy', axes=NORMAL_AXES),
        )


IMAGES = 'nyu_depth_v2_labeled.mat'
SPLITS_FILE = 'splits.mat'
MAPPING = 'classMapping40.mat'
SPLIT_KEYS = dict(train='trainNdxs', val='testNdxs', test='testNdxs')

MOST_BYTES = 2**30


class Hdf5File:
    """An HDF5 file, opened by each process for itself. A copy or a pickle holds the path.

    h5py lets threads in one after the other, and copies no process while a thread is inside. A second lock around it was taken in
    the other order by a fork, and both waited for ever.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        # The handles of a parent are kept untouched: closing one here would act on what the parent shares with this process.
        self._handles: dict[int, Any] = {}
        self.shapes = {name: item.shape for name, item in self._handle().items() if getattr(item, 'shape', None)}

    def read(self, name: str, position: int) -> np.ndarray:
        """The entry of a data set at a position along its first axis."""
        try:
            item = self._handle()[name]
            # Chunks are packed: a small file may state any size.
            if item.dtype.kind not in 'buif' or math.prod(item.shape[1:]) * item.dtype.itemsize > MOST_BYTES:
                raise ArgumentError(f'it should be numbers of at most {MOST_BYTES} bytes, not {item.dtype} {item.shape[1:]}')
            return item[position]
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise CorruptFileError(f"Entry {position} of '{name}' in '{self.path}' cannot be read: {error}") from error

    def _handle(self) -> Any:
        process = os.getpid()
        if process not in self._handles:
            h5py = import_extra('h5py', 'nyuv2', self.path)
            try:
                self._handles[process] = h5py.File(self.path, 'r')
            except FileNotFoundError:
                raise DataNotFoundError(f"The file '{self.path}' does not exist.") from None
            except OSError as error:
                raise CorruptFileError(
                    f"'{self.path}' should be an HDF5 file (MATLAB v7.3). It cannot be opened: {error}"
                ) from error
        return self._handles[process]

    def __reduce__(self):
        return Hdf5File, (self.path,)


@DATASETS.register_module()
class NYUv2MatDataset(LabelledDataset):
    """The 1449 labelled frames of NYU Depth V2 (Silberman et al., ECCV 2012), 480x640, straight from the official files.

    Files, all in one folder: ``nyu_depth_v2_labeled.mat`` (HDF5; its arrays lie transposed, ``(N, 3, W, H)`` and ``(N, W, H)``),
    ``splits.mat`` (795 training and 654 test frames, counted from 1) and, for classes, ``classMapping40.mat`` (Gupta et al., CVPR
    2013; the class of 40 of each of the 894 names). From 40 to 13 classes it is the table of ``class13Mapping.mat``. Unlabelled
    pixels are ignored. The white border of the frames is left in place. Threads and processes may read at the same time, though
    one frame at a time each process; folders of files are faster to train from.

    The stem of a frame is its number from 1 in four digits; ``img_path`` is that below the path of the file, for messages.

    Args:
        data_root: Folder that holds the files.
        split: ``'train'``, or ``'val'`` or ``'test'`` for the test frames.
        num_classes: 40 or 13.
        raw_depth: Whether depth is what the Kinect measured (``rawDepths``, 0 = unknown) instead of the in-painted ``depths``.
        fit_normals: Side of the window for ``'normals'``, as in :class:`NYUv2Dataset`.
        tasks: Of ``'semseg'``, ``'depth'`` and ``'normals'``.
        **kwargs: Of the parent: ``pipeline``, ``metainfo``, ``indices``, ``test_mode`` and ``lazy_init``.

    Raises:
        ArgumentError: If ``num_classes`` or ``split`` is unknown.
        ConfigError: If the package h5py or SciPy is missing (``mtl_plugins[nyuv2]``).
        DataError: If a file is missing or damaged, or lacks an array.
    """

    def __init__(
        self,
        data_root: str | Path,
        split: str = 'train',
        num_classes: int = 40,
        raw_depth: bool = False,
        fit_normals: int = 0,
        **kwargs: Any,
    ):
        check_choice('split', split, list(SPLIT_KEYS))
        self.split = split
        self.num_classes = num_classes
        self.depth_key = 'rawDepths' if raw_depth else 'depths'
        super().__init__(self.offered_labels(dict(num_classes=num_classes, fit_normals=fit_normals)), data_root, **kwargs)
        self.check_used('semseg', 'num_classes', num_classes != 40)
        self.check_used('depth', 'raw_depth', raw_depth)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        labels = dict(
            semseg=dict(type='ClassMap', classes=_classes(config.get('num_classes', 40))),
            depth=dict(type='DepthMap', encoding='metres', depth_range=DEPTH_RANGE),
        )
        return labels | _fitted_normals(config)

    def load_data_list(self) -> list[dict]:
        root = Path(self.data_root)
        self._file = Hdf5File(root / IMAGES)
        sources = dict(semseg='labels', depth=self.depth_key, normals=self.depth_key)
        wanted = ['images', *(sources[name] for name in self.labels)]
        shapes = {name: self._file.shapes.get(name, ()) for name in wanted}
        total, size = shapes['images'][:1], shapes['images'][-2:]
        if any(shape != (*total, *([3] if name == 'images' else []), *size) or not shape for name, shape in shapes.items()):
            raise CorruptFileError(f"'{root / IMAGES}' should hold images (N, 3, W, H) and maps (N, W, H). Found {shapes}.")
        numbers = read_mat(root / SPLITS_FILE, SPLIT_KEYS[self.split]).ravel().astype(int)
        if not numbers.size or numbers.min() < 1 or numbers.max() > total[0]:
            raise CorruptFileError(
                f"'{root / SPLITS_FILE}' should number frames 1..{total[0]} of '{IMAGES}'. Found {numbers[:8]} and on."
            )
        if 'semseg' in self.labels:
            self._class_of_id = self._read_classes(root / MAPPING)
        stems = [f'{number:04d}' for number in numbers]
        return [dict(stem=stem, img_path=f'{root / IMAGES}/{stem}', frame=int(stem) - 1) for stem in stems]

    def _read_classes(self, path: Path) -> np.ndarray:
        """The class of each id in the file, uint8, 255 for none; ids count from 1."""
        forty = read_mat(path, 'mapClass').ravel().astype(int)
        if not forty.size or forty.min() < 1 or forty.max() > 40:
            raise CorruptFileError(f"`mapClass` in '{path}' should hold classes 1..40. Found {sorted(set(forty.tolist()))[:8]}.")
        classes = forty - 1 if self.num_classes == 40 else np.array(CLASS_13_OF_40)[forty - 1]
        return np.concatenate([[IGNORE_LABEL], classes]).astype(np.uint8)

    def load_sample(self, results: dict) -> None:
        frame = results['frame']
        results['img'] = np.ascontiguousarray(self._file.read('images', frame).transpose(2, 1, 0))
        if 'semseg' in self.labels:
            ids = self._file.read('labels', frame).T
            if ids.max() >= len(self._class_of_id):
                raise CorruptFileError(
                    f"The labels of '{results['img_path']}' should be 0..{len(self._class_of_id) - 1}, which '{MAPPING}' maps. "
                    f'Found {ids.max()}.'
                )
            results[self.labels['semseg'].key] = self._class_of_id[ids]
        if {'depth', 'normals'} & self.labels.keys():
            metres = np.ascontiguousarray(self._file.read(self.depth_key, frame).T)
        if 'depth' in self.labels:
            results[self.labels['depth'].key] = self.labels['depth'].known_metres(metres)
        if 'normals' in self.labels:
            results[self.labels['normals'].key] = self.labels['normals'].from_metres(metres)


def read_mat(path: Path, key: str) -> np.ndarray:
    """Return an array of a MATLAB file before v7.3."""
    scipy_io = import_extra('scipy.io', 'nyuv2', path)
    if not path.is_file():
        raise DataNotFoundError(
            f"The file '{path}' does not exist. The toolboxes of NYU Depth V2 have it: put it next to '{IMAGES}'."
        )
    with refusing(f"'{path}' cannot be read as a MATLAB file"):
        content = scipy_io.loadmat(path, variable_names=[key])
    if key not in content:
        names = sorted(name for name, *_ in scipy_io.whosmat(path))
        raise CorruptFileError(f"'{path}' should hold `{key}`. Found {names}.")
    if content[key].dtype.kind not in 'buif':
        raise CorruptFileError(f"`{key}` in '{path}' should be numbers. Found {content[key].dtype}.")
    return content[key]
