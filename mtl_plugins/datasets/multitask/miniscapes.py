"""Images with any labels, in files that follow templates; MiniScapes is one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.loading.labelled_dataset import LabelledDataset
from mtl_plugins.datasets.multitask.split_listing import SplitListing, list_split
from mtl_plugins.datasets.packing.packed import FOLDER_NAME, open_packed, warn_unused
from mtl_plugins.errors import ArgumentError, CorruptFileError
from mtl_plugins.labels.presets import MINISCAPES_TASKS, described_layout, miniscapes_labels
from mtl_plugins.registry import DATASETS


@DATASETS.register_module()
class MultiTaskDataset(LabelledDataset):
    """Images and their label maps: ``<data_root>/<template>`` with ``{split}`` and ``{stem}``, any number and size.

    A folder ``<split>/packed`` (``mtl data pack``) is used instead of the files as long as it matches them
    and the labels' configs.

    ``dataset[key]`` takes an int or a `SampleKey` and runs the pipeline on ``img_path``, ``label_paths`` (by label; a label that
    the sample lacks is absent), ``labels`` (the kinds by name), ``sample_idx`` and ``rng``, the sample's own random generator;
    from a packed folder also on ``img`` and the stored maps (read-only).

    Args:
        data_root: Folder that the templates start from.
        split: What ``{split}`` stands for. Only ``'test'`` may go without labels.
        labels: Config of each label by its name, see :class:`~mtl_plugins.labels.label_kind.LabelKind`.
        image: Template of the images.
        stem: Regular expression of what ``{stem}`` stands for, digits by default; with a slash in it images lie in subfolders.
        split_file: Template of a file that names the stems of the split, one a line, instead of what the folder holds; without
            ``stem``.
        missing_labels: Names of labels that samples may lack. Such samples do not count for the task, in losses and in scores.
        use_packed: Allow a packed folder.
        **kwargs: Of :class:`LabelledDataset`.

    Raises:
        ConfigError: If a label's config is wrong.
        ArgumentError: If ``tasks`` or ``missing_labels`` is no sequence of different names of labels.
        DataError: If the root, the split, its images or a label file is missing; from ``dataset[key]``, if a file cannot be used.
    """

    default_image = '{split}/rgb/{stem}.jpg'
    default_stem = r'\d+'

    def __init__(
        self,
        data_root: str | Path,
        split: str = 'train',
        labels: Mapping[str, Mapping] | None = None,
        image: str | None = None,
        stem: str | None = None,
        split_file: str | None = None,
        missing_labels: Sequence[str] = (),
        use_packed: bool = True,
        **kwargs: Any,
    ):
        if stem is not None and split_file is not None:
            raise ArgumentError(f'`stem` should be left out with `split_file`, which names the samples. Found {stem!r}.')
        image, stem = image or self.default_image, stem or self.default_stem
        self.layout = dict(image=image, stem=stem, split_file=split_file, missing_labels=missing_labels)
        self.split = split
        self.use_packed = use_packed
        self.packed = None
        super().__init__(self.offered_labels(dict(data_root=data_root, labels=labels)), data_root, **kwargs)

    def list_files(self) -> SplitListing:
        """The files of the split."""
        return list_split(self.data_root, self.split, self.labels, **self.layout)

    def load_data_list(self) -> list[dict]:
        names, missing = tuple(self.labels), self.layout['missing_labels']
        if isinstance(missing, str) or not set(missing) <= set(names):
            raise ArgumentError(f'`missing_labels` should be a sequence of names out of {names}. Found {missing!r}.')
        listing = self.list_files()
        self.packed = open_packed(listing) if self.use_packed else None
        return listing.samples()

    def load_sample(self, results: dict) -> None:
        packed = self.packed
        if packed is not None:
            try:
                results.update(packed[results['split_position']])
            except CorruptFileError as error:
                self.packed = None
                warn_unused(Path(self.data_root, self.split, FOLDER_NAME), str(error))


@DATASETS.register_module()
class MiniScapesDataset(MultiTaskDataset):
    """Images with semantic labels (Cityscapes' 19 classes, 255 = ignore) and 8-bit disparity codes (0 = no depth known).

    Files: ``<data_root>/<split>/{rgb/<index>.jpg, semseg/<index>.png, depth/<index>.png}``; on request (``tasks``) also
    ``normals/<index>.png`` and ``boundary/<index>.png``. A file ``<data_root>/dataset.json``, as ``convert_dataset.py``
    writes it, may replace the labels (other classes, another range of depth), say which of them samples may lack, and describe
    another layout, names of splits and a rule that makes a validation split.

    Arguments and errors are those of :class:`MultiTaskDataset`; ``tasks`` are ``('semseg', 'depth')`` by default.
    """

    default_tasks = MINISCAPES_TASKS

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        return config.get('labels') or miniscapes_labels(config.get('data_root'))

    def list_files(self) -> SplitListing:
        described = described_layout(self.data_root, self.split)
        # Arguments win.
        given = {
            key: value for key, value in self.layout.items() if value and value not in (self.default_image, self.default_stem)
        }
        if 'split_file' in given:
            described.pop('stem', None)
        missing = (*self.layout['missing_labels'], *described.get('missing_labels', ()))
        return list_split(self.data_root, self.split, self.labels, **{**described, **given, 'missing_labels': missing})
