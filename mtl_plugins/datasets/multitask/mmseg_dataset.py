"""The data sets that mmseg knows, for segmentation."""

import copy
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.registry import DATASETS as MMSEG_DATASETS

from mtl_plugins.datasets.loading.labelled_dataset import LabelledDataset
from mtl_plugins.datasets.multitask.split_listing import list_split
from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.config_classes import accepted_arguments, suggest
from mtl_plugins.utils.data_files import find_registered

# What this class does itself.
OWN_ARGUMENTS = ('data_root', 'pipeline', 'indices', 'test_mode', 'lazy_init', 'serialize_data', 'max_refetch')


@DATASETS.register_module()
class MMSegDataset(LabelledDataset):
    """A data set class of mmseg, read by this project's loader.

    ``dict(type='MMSegDataset', data_root=..., dataset=dict(type='ADE20KDataset', data_prefix=...))``: mmseg's class says where
    files are, by ``data_prefix``, ``img_suffix``, ``seg_map_suffix`` and ``ann_file``, and what their ids mean: its classes
    and palette (a choice of ``classes`` in its ``metainfo``, too), ``ignore_index`` and ``reduce_zero_label``. Images are JPEG or
    PNG files, label maps palette or grey PNG files. The one label is ``semseg``. Where ``data_prefix`` has no ``seg_map_path``
    samples have no label.

    Args:
        data_root: Folder that mmseg's class starts from.
        dataset: Config of mmseg's class, without what this one takes; ``mmseg.`` before its name is optional.
        tasks: ``('semseg',)``.
        **kwargs: Of the parent: ``pipeline``, ``metainfo``, ``indices``, ``test_mode`` and ``lazy_init``.

    Raises:
        ConfigError: If mmseg has no such class, or it lacks or does not know an argument.
        ArgumentError: If it is none of images with one class map each, finds its files in another way, or has no classes.
        DataError: If files are missing; from ``dataset[key]``, if one cannot be used.
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
            raise ArgumentError(f'`dataset.metainfo` of {source["type"]} has no `classes`: name them, as in dict(classes=[...]).')
        label_map = kind.get_label_map(list(classes))
        folder = argument(kind, source, 'data_prefix').get('seg_map_path') or ''
        path = os.path.join(folder, f'{{stem}}{argument(kind, source, "seg_map_suffix")}')
        label = dict(type='ClassMap', classes=tuple(classes), path=path)
        palette = metainfo.get('palette') or []
        if label_map is not None and len(palette) == len(label_map):
            chosen = {new: palette[old] for old, new in label_map.items() if new != IGNORE_LABEL}
            palette = [chosen[number] for number in range(len(classes))]
        if len(palette) == len(classes):
            label['palette'] = [list(colour) for colour in palette]
        reduced = argument(kind, source, 'reduce_zero_label')
        ignored = argument(kind, source, 'ignore_index')
        if reduced or label_map is not None or ignored != IGNORE_LABEL:
            # As mmseg's `LoadAnnotations`: zero first, then the chosen classes; ids that are no class then are ignored.
            ids = {number: number - 1 if reduced else number for number in range(256)}
            found = {number: (label_map or {}).get(each, each) for number, each in ids.items()}
            label['mapping'] = {number: new for number, new in found.items() if 0 <= new < len(classes) and new != ignored}
        return dict(semseg=label)

    def load_data_list(self) -> list[dict]:
        kind = find_class(self.source)
        prefix = argument(kind, self.source, 'data_prefix')
        folder = prefix.get('img_path') or ''
        image = os.path.join(folder, f'{{stem}}{argument(kind, self.source, "img_suffix")}')
        split_file = argument(kind, self.source, 'ann_file') or None
        # Names of images may hold folders.
        labels = self.labels if prefix.get('seg_map_path') else {}
        return list_split(self.data_root, folder, labels, image, r'[^/]+(?:/[^/]+)*', split_file).samples()


def find_class(source: Mapping[str, Any]) -> type:
    """The class of mmseg that a config names."""
    name = source.get('type')
    kind = find_registered(name, MMSEG_DATASETS) if isinstance(name, str) else name
    # Here, because it takes more than a second and the registry imports this file for every run.
    from mmseg.datasets import BaseSegDataset

    if kind is None:
        raise ConfigError(f'`dataset.type` should be a data set of mmseg, such as ADE20KDataset. Found {name!r}.')
    if not (inspect.isclass(kind) and issubclass(kind, BaseSegDataset)):
        raise ArgumentError(f'`dataset.type` should be a data set of images with one class map each. Found {name!r}.')
    doubled = [argument for argument in OWN_ARGUMENTS if argument in source]
    if doubled:
        raise ArgumentError(f'`{doubled[0]}` should be given to MMSegDataset, not to `dataset`. Found it in {name}.')
    accepted = accepted_arguments(kind)
    unknown = [argument for argument in source if accepted is not None and argument not in ('type', *accepted)]
    if unknown:
        raise ConfigError(f'{name} of mmseg has no argument `{unknown[0]}`.{suggest(unknown[0], accepted)}')
    if kind.load_data_list is not BaseSegDataset.load_data_list:
        raise ArgumentError(f'`dataset.type` should list its files as mmseg does, by `data_prefix`. Found {name!r}.')
    return kind


def argument(kind: type, source: Mapping[str, Any], name: str) -> Any:
    """The value in the config, or the default of the class or of the parent that it hands its arguments to."""
    if name in source:
        return source[name]
    for parent in kind.__mro__:
        parameters = inspect.signature(parent.__init__).parameters if '__init__' in parent.__dict__ else {}
        if name in parameters:
            if parameters[name].default is inspect.Parameter.empty:
                raise ConfigError(f'`dataset` should have the argument `{name}`, which {kind.__name__} of mmseg needs.')
            return parameters[name].default
    raise AssertionError(f'{kind.__name__} takes no `{name}`')
