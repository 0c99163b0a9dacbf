"""Predictions merged from several views of an image: scaled, and mirrored left to right."""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmseg.structures import SegDataSample
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor
from mtl_plugins.registry import MODELS


def scaled_size(size: Sequence[int], scale: float, divisor: int) -> tuple[int, int]:
    """Return height and width times ``scale``, each as the nearest multiple of ``divisor``, one of it at least."""
    return tuple(max(1, round(side * scale / divisor)) * divisor for side in size)


@MODELS.register_module()
class MultiTaskTTAModel(BaseModel):
    """Shows a :class:`MultiTaskSegmentor` each view of a batch in turn and merges the predictions. It predicts only.

    A view is the image without its padding, resized bilinearly (corners not aligned, not smoothed before shrinking: as
    :class:`RandomHomography` zooms in training) to the scaled size, rounded to a multiple of the data preprocessor's
    ``size_divisor``, and mirrored. The prediction is mirrored back on its coarse grid and upsampled to the size of the image; how
    views are merged depends on the task, see :attr:`DenseTask.mergings`.

    Views are summed up as they come: memory does not grow with their number, but for the median of depth. With scale 1 and no
    mirroring the predictions are the model's own, bit by bit.

    Args:
        model: The model, in evaluation mode.
        scales: Factors on height and width, each > 0; equal ones count once. A dict has those of each task by its name.
        flip: Add the mirror image of each scale.
        merge: Way of merging by task; by default the first of its ``mergings``.
        scale_compensation: Multiply metres by the view's zoom: a camera of fixed focal length sees an object ``zoom`` times as
            large from ``1 / zoom`` of the distance. For models trained with lengths corrected for zoom.
    """

    def __init__(
        self,
        *,
        model: MultiTaskSegmentor,
        scales: Sequence[float] | Mapping[str, Sequence[float]] = (0.75, 1.0, 1.25),
        flip: bool = True,
        merge: Mapping[str, str] | None = None,
        scale_compensation: bool = False,
    ) -> None:
        super().__init__(data_preprocessor=model.data_preprocessor)
        by_task = dict(scales) if isinstance(scales, Mapping) else dict.fromkeys(model.tasks, scales)
        if set(by_task) != set(model.tasks):
            raise ArgumentError(
                f"`scales` should have a list for each of the model's tasks, {list(model.tasks)}. Found {scales}."
            )
        for each in by_task.values():
            numbers = isinstance(each, (list, tuple)) and all(isinstance(scale, (int, float)) for scale in each)
            if not numbers or not each or not all(0 < scale < math.inf for scale in each):
                raise ArgumentError(f'`scales` should be a list of one or more positive numbers. Found {each!r}.')
        for name, merging in (merge or {}).items():
            if name not in model.tasks:
                raise ArgumentError(f"`merge` should name the model's tasks, {list(model.tasks)}. Found {name!r}.")
            if merging not in model.tasks[name].mergings:
                raise ArgumentError(f'`merge.{name}` should be one of {list(model.tasks[name].mergings)}. Found {merging!r}.')
        self.model = model
        self.scales = {name: tuple(dict.fromkeys(float(scale) for scale in by_task[name])) for name in model.tasks}
        self.flips = (False, True) if flip else (False,)
        self.merge = {name: (merge or {}).get(name, task.mergings[0]) for name, task in model.tasks.items()}
        self.scale_compensation = scale_compensation

    def describe(self) -> str:
        views = len(set(itertools.chain(*self.scales.values()))) * len(self.flips)
        lists = {name: ', '.join(f'{scale:g}' for scale in scales) for name, scales in self.scales.items()}
        alike = len(set(lists.values())) == 1
        scales = next(iter(lists.values())) if alike else '; '.join(f'{name}: {scales}' for name, scales in lists.items())
        merge = ', '.join(f'{name}: {merging}' for name, merging in self.merge.items())
        mirrored = ', each also mirrored' if len(self.flips) > 1 else ''
        compensated = ', metres times zoom' if self.scale_compensation else ''
        return f'{views} view{"s" if views > 1 else ""} (scale {scales}{mirrored}), merging {merge}{compensated}'

    def forward(
        self,
        inputs: Tensor,
        targets: dict[str, Tensor] | None = None,
        sample_idx: Tensor | None = None,
        metainfo: list[dict] | None = None,
        mode: str = 'predict',
    ) -> list[SegDataSample]:
        if mode != 'predict':
            raise ArgumentError(f"`mode` should be 'predict' with test-time augmentation. Found {mode!r}.")
        height, width = inputs.shape[-2:]
        shapes = [meta.get('ori_shape', (height, width)) for meta in metainfo or [{}] * len(inputs)]
        sizes = [(min(shape[0], height), min(shape[1], width)) for shape in shapes]
        return self.model.pack_samples(self.predict_arrays(inputs, sizes), targets or {}, sample_idx, metainfo)

    @torch.no_grad()
    def predict_arrays(self, inputs: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> dict[str, Tensor]:
        """Return predictions by label of normalised images ``(B, 3, H, W)``, as :meth:`MultiTaskSegmentor.predict_arrays` does.

        ``sizes`` are height and width of each image at the top left of its input, all of it by default; predictions beyond are 0,
        unless they are the model's own.
        """
        if set(self.scales.values()) == {(1.0,)} and self.flips == (False,):
            return self.model.predict_arrays(inputs)
        sizes = sizes or [tuple(inputs.shape[-2:])] * len(inputs)
        maps = {}
        for height, width in dict.fromkeys(sizes):
            indices = [index for index, size in enumerate(sizes) if size == (height, width)]
            for name, merged in self._merge_views(inputs[indices, :, :height, :width]).items():
                if name not in maps:
                    maps[name] = merged.new_zeros((len(inputs), *merged.shape[1:-2], *inputs.shape[-2:]))
                maps[name][indices, ..., :height, :width] = merged
        return maps

    def _merge_views(self, images: Tensor) -> dict[str, Tensor]:
        """Return the merged maps ``(B, H, W)`` or ``(B, C, H, W)`` of images of one size, by label."""
        size = tuple(images.shape[-2:])
        totals = {name: [] for name in self.merge}
        divisor = getattr(self.data_preprocessor, 'size_divisor', None) or 1
        sizes = {
            name: dict.fromkeys(scaled_size(size, scale, divisor) for scale in scales) for name, scales in self.scales.items()
        }
        for scaled in dict.fromkeys(itertools.chain(*sizes.values())):
            view = images
            if scaled != size:
                view = F.interpolate(images, size=scaled, mode='bilinear', align_corners=False)
            names = [name for name, of_task in sizes.items() if scaled in of_task]
            for flip in self.flips:
                self._add_view({name: totals[name] for name in names}, view, size, flip)
        tasks = self.model.tasks
        return {
            self.model.labels[name]: torch.stack(
                [tasks[name].merged_view(total, len(sizes[name]) * len(self.flips), self.merge[name]) for total in images_totals]
            )
            for name, images_totals in totals.items()
        }

    def _add_view(self, totals: dict[str, list[Tensor]], view: Tensor, size: tuple[int, int], flip: bool) -> None:
        """Add one view to the totals of some tasks, or start them with it: a tensor per image."""
        zoom = math.sqrt(view.shape[-2] * view.shape[-1] / (size[0] * size[1])) if self.scale_compensation else 1.0
        predictions = self.model.decode(view.flip(-1) if flip else view)
        for name in totals:
            task, prediction = self.model.tasks[name], predictions[name][-1]
            # Image by image: the upsampled predictions of a batch never exist at once.
            for index, image in enumerate(task.mirror(prediction) if flip else prediction):
                values = task.view_values(task.upsample(image[None].float(), size)[0], self.merge[name], zoom)
                if index == len(totals[name]):
                    totals[name].append(values)
                else:
                    totals[name][index] = task.add_view(totals[name][index], values, self.merge[name])
