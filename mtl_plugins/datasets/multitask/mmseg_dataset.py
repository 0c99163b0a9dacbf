"""The data sets that mmseg knows, for segmentation."""

import copy
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.loading.labelled_dataset import LabelledDataset
from mtl_plugins.datasets.multitask.split_listing import split_suffix, tell_left_out, walk_files
from mtl_plugins.errors import ArgumentError, ConfigError, DataNotFoundError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.decoding import IMAGE_SUFFIXES
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.data_files import find_registered

# What this class does itself.
OWN_ARGUMENTS = ('data_root', 'pipeline', 'indices', 'test_mode', 'lazy_init', 'serialize_data', 'max_refetch')


@DATASETS.register_module()
class MMSegDataset(LabelledDataset):
    """Any data set class of mmseg, read by this project's loader.

    ``dict(type='MMSegDataset', data_root=..., dataset=dict(type='ADE20KDataset', data_prefix=...))``: mmseg's class says which
    files there are and what their ids mean, by ``data_prefix``, ``img_suffix``, ``seg_map_suffix`` and ``ann_file``, its classes
    and palette (a choice of ``classes`` in its ``metainfo``, too), ``ignore_index`` and ``reduce_zero_label``. Images are JPEG or
    PNG files, label maps palette or grey PNG files. The one label is ``semseg``. Where ``data_prefix`` has no ``seg_map_path``
    samples have no label.

    Args:
        data_root: Folder that mmseg's class starts from.
        dataset: Config of mmseg's class, without what this one takes; ``mmseg.`` before its name is optional.
        tasks: ``('semseg',)``.
        **kwargs: As :class:`MultiTaskDataset`: ``pipeline``, ``metainfo``, ``indices``, ``test_mode`` and ``lazy_init``.

    Raises:
        ConfigError: If mmseg has no such class, or does not build it.
        ArgumentError: If it is none of images with one class map each, or has no classes.
        DataNotFoundError: If files are missing.
        CorruptFileError: From ``dataset[key]``, if a file cannot be used.
    """

    def __init__(self, data_root: str | Path, dataset: Mapping[str, Any], **kwargs: Any):
        self.source = copy.deepcopy(dict(dataset))
        super().__init__(self.offered_labels(dict(dataset=dataset)), data_root, **kwargs)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        source = config.get('dataset') or {}
        kind = find_class(source)
        metainfo = kind._load_metainfo(copy.deepcopy(dict(source.get('metainfo') or {})))
        classes = metainfo.get('classes')
        if not classes:
            raise ArgumentError(f'`dataset.metainfo` of {source["type"]} should name its `classes`. Found none.')
        label_map = kind.get_label_map(list(classes))
        label = dict(type='ClassMap', classes=tuple(classes))
        palette = metainfo.get('palette') or []
        if label_map is not None and len(palette) == len(label_map):
            chosen = {new: palette[old] for old, new in label_map.items() if new != IGNORE_LABEL}
            palette = [chosen[number] for number in range(len(classes))]
        if len(palette) == len(classes):
            label['palette'] = [list(colour) for colour in palette]
        reduced = argument(kind, source, 'reduce_zero_label')
        ignored = argument(kind, source, 'ignore_index')
        if reduced or label_map is not None or ignored != IGNORE_LABEL:
            label['mapping'] = id_mapping(len(classes), reduced, label_map, ignored)
        return dict(semseg=label)

    def load_data_list(self) -> list[dict]:
        kind = find_class(self.source)
        arguments = {name: value for name, value in self.source.items() if name != 'type'}
        try:
            source = kind(data_root=self.data_root, pipeline=[], lazy_init=True, **arguments)
            samples = source.load_data_list()
        except TypeError as error:
            raise ConfigError(f'The data set {kind.__name__} of mmseg cannot be built: {error}') from error
        except (AssertionError, OSError) as error:
            reason = str(error) or 'a file or folder that it asks for does not exist'
            raise DataNotFoundError(
                f"The data set {kind.__name__} of mmseg cannot list its samples in '{self.data_root}': {reason}."
            ) from error
        if not samples:
            raise DataNotFoundError(
                f"The data set {kind.__name__} of mmseg finds no sample in '{self.data_root}' "
                f'(`data_prefix` {source.data_prefix}, `img_suffix` {source.img_suffix!r}).'
            )
        folder = source.data_prefix.get('img_path') or ''
        data_list = []
        for sample in samples:
            # mmseg leaves the byte order mark of a list in the first name.
            path = str(sample['img_path']).replace('\ufeff', '')
            stem = os.path.relpath(path, folder).removesuffix(source.img_suffix)
            label = str(sample.get('seg_map_path') or '').replace('\ufeff', '')
            data_list.append(dict(stem=stem, img_path=path, label_paths=dict(semseg=(label,)) if label else {}))
        missing = [path for sample in data_list for path in sample['label_paths'].get('semseg', ()) if not os.path.isfile(path)]
        if missing:
            raise DataNotFoundError(
                f"The label file '{missing[0]}' does not exist ({len(missing)} of {len(samples)} images lack theirs)."
            )
        if not source.ann_file and os.path.isdir(folder):
            data_list += _other_formats(data_list, folder, source.data_prefix.get('seg_map_path'), source)
            data_list.sort(key=lambda sample: sample['img_path'])
        return data_list


def _other_formats(data_list: list[dict], folder: str, label_folder: str | None, source: Any) -> list[dict]:
    """The images that mmseg leaves out because of their suffix, as far as they have a label; a warning counts what is left."""
    taken = {os.path.relpath(path, folder) for path in (sample['img_path'] for sample in data_list)}
    known = {sample['stem'] for sample in data_list}
    end = split_suffix(source.img_suffix)[0]
    found, unread = [], []
    for path in walk_files(Path(folder)):
        if path in taken:
            continue
        start, suffix = split_suffix(path)
        stem = start.removesuffix(end)
        label = f'{label_folder}/{stem}{source.seg_map_suffix}' if label_folder else None
        is_image = suffix.lower() in IMAGE_SUFFIXES and start.endswith(end) and stem not in known
        if is_image and (label is None or os.path.isfile(label)):
            known.add(stem)
            found.append(dict(stem=stem, img_path=f'{folder}/{path}', label_paths=dict(semseg=(label,)) if label else {}))
        elif suffix.lower() in IMAGE_SUFFIXES:
            unread.append(path)
    labels = walk_files(Path(label_folder)) if label_folder else ()
    spare = [path for path in labels if path.endswith(source.seg_map_suffix)]
    spare = [path for path in spare if path.removesuffix(source.seg_map_suffix) not in known]
    tell_left_out(f"'{folder}'", len(data_list) + len(found), {'images': unread, 'labels without an image': spare})
    return found


def find_class(source: Mapping[str, Any]) -> type:
    """The class of mmseg that a config names."""
    # Here, because it takes more than a second and the registry imports this file for every run.
    from mmseg.datasets import BaseSegDataset
    from mmseg.registry import DATASETS as MMSEG_DATASETS

    name = source.get('type')
    kind = find_registered(name, MMSEG_DATASETS) if isinstance(name, str) else name
    if kind is None:
        raise ConfigError(f'`dataset.type` should be a data set of mmseg, such as ADE20KDataset. Found {name!r}.')
    if not (inspect.isclass(kind) and issubclass(kind, BaseSegDataset)):
        raise ArgumentError(f'`dataset.type` should be a data set of images with one class map each. Found {name!r}.')
    doubled = [argument for argument in OWN_ARGUMENTS if argument in source]
    if doubled:
        raise ArgumentError(f'`{doubled[0]}` should be given to MMSegDataset, not to `dataset`. Found it in {name}.')
    return kind


def argument(kind: type, source: Mapping[str, Any], name: str) -> Any:
    """What the config gives, or the default of the class or of the parent that it hands its arguments to."""
    if name in source:
        return source[name]
    for parent in kind.__mro__:
        parameters = inspect.signature(parent.__init__).parameters if '__init__' in parent.__dict__ else {}
        if name in parameters:
            return parameters[name].default
    raise AssertionError(f'{kind.__name__} takes no `{name}`')


def id_mapping(
    num_classes: int, reduce_zero_label: bool, label_map: Mapping[int, int] | None, ignore_index: int
) -> dict[int, int]:
    """The class of each id in the files, as mmseg's `LoadAnnotations` finds it: zero first, then the chosen classes.

    Ids that are no class then are left out, and so ignored.
    """
    mapping = {}
    for number in range(256):
        reduced = number - 1 if reduce_zero_label else number
        new = (label_map or {}).get(reduced, reduced)
        if 0 <= new < num_classes and new != ignore_index:
            mapping[number] = new
    return mapping
