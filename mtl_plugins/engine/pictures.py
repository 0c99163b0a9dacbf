"""Pictures in the log back ends while a model trains: the hook, and what it draws."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmseg.structures import SegDataSample

from mtl_plugins.engine.state import is_training, unwrap
from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.metrics import MultiTaskMetric, to_values
from mtl_plugins.labels.label_kind import LabelKind, sample_field
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.models.decode_heads.bins_depth_heads import find_bins
from mtl_plugins.models.tasks.semseg import SemSegTask
from mtl_plugins.registry import HOOKS, PICTURES
from mtl_plugins.visualization.confusion_picture import render_confusion_matrix
from mtl_plugins.visualization.plots import to_array, write_picture
from mtl_plugins.visualization.prediction_grid import (
    crop_attention,
    render_attention_grid,
    render_class_maps,
    render_prediction_grid,
)
from mtl_plugins.visualization.visualizer import Histogram, Visualizer

# Names in the log back ends, each with an image ``(H, W, 3)`` uint8 or a histogram.
Drawn = Iterator[tuple[str, np.ndarray | Histogram]]


class Picture:
    """Base of the pictures of a run.

    A picture of your own overrides :meth:`draw`, is registered in ``PICTURES`` and has a line in the config:
    ``default_hooks = dict(pictures=dict(mine=dict(type='MyPicture')))``.

    Args:
        interval: Draw at every so many validations; 0 never.

    Attributes:
        needs_training: False for a picture that a validation without training draws, too.
    """

    needs_training = True

    def __init__(self, *, interval: int = 1) -> None:
        self.interval = interval

    def see_training(self, runner, batch: Mapping[str, Any]) -> Drawn:
        """Draw from a training batch; called in every iteration."""
        return iter(())

    def see_validation(self, runner, batch: Mapping[str, Any], samples: Sequence[SegDataSample]) -> None:
        """Take what :meth:`draw` needs from a validation batch and its predictions."""

    def draw(self, runner) -> Drawn:
        """Draw after a validation."""
        return iter(())


@HOOKS.register_module()
class PictureHook(Hook):
    """Hand pictures of a run to every log back end, on the main process.

    Args:
        **pictures: Configs of :class:`Picture` by any name; None leaves one out.
    """

    priority = 'LOW'

    def __init__(self, **pictures: dict | None) -> None:
        self.pictures: list[Picture] = [PICTURES.build(config) for config in pictures.values() if config]
        self._validations = 0

    @master_only
    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        for picture in self.pictures:
            self._show(runner, picture.see_training(runner, data_batch), runner.iter + 1)

    @master_only
    def after_val_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None) -> None:
        for picture in self._due(runner):
            picture.see_validation(runner, data_batch, outputs)

    @master_only
    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        for picture in self._due(runner):
            self._show(runner, picture.draw(runner), runner.iter if is_training(runner) else 0)
        self._validations += 1

    def _due(self, runner) -> list[Picture]:
        pictures = [each for each in self.pictures if each.interval and (self._validations + 1) % each.interval == 0]
        return pictures if is_training(runner) else [each for each in pictures if not each.needs_training]

    @staticmethod
    def _show(runner, drawn: Drawn, step: int) -> None:
        for name, content in drawn:
            if isinstance(content, np.ndarray):
                runner.visualizer.add_image(name, content, step=step)
            elif isinstance(runner.visualizer, Visualizer):
                runner.visualizer.add_histograms({name: content}, step=step)


@PICTURES.register_module()
class TrainingCrops(Picture):
    """Crops of the training batch as they reach the model, with their labels: ``training``.

    Lengths are drawn as in the files, without the ``length_scale`` by which a zoom may correct them.

    Args:
        interval: Draw at every so many iterations; 0 never.
        num_images: Rows of the picture at most.
    """

    def __init__(self, *, interval: int = 500, num_images: int = 4) -> None:
        super().__init__(interval=interval)
        self.num_images = num_images

    def see_training(self, runner, batch: Mapping[str, Any]) -> Drawn:
        if self.interval and not (runner.iter + 1) % self.interval:
            yield 'training', self.render(runner, batch)

    def render(self, runner, batch: Mapping[str, Any]) -> np.ndarray:
        """Draw the first images of a batch with their labels."""
        labels = build_labels(runner.train_dataloader.dataset.metainfo['labels'])
        rows = []
        for index, image in enumerate(batch['inputs'][: self.num_images]):
            row = dict(image=image.numpy(), labels={}, predictions={})
            for name, stored in batch.get('targets', {}).items():
                row['labels'][name] = labels[name].to_values(stored[index].numpy())
            if 'sample_idx' in batch:
                row['caption'] = f'train {batch["sample_idx"][index]}'
            rows.append(row)
        return render_prediction_grid(rows, labels, tile_width=256)


@PICTURES.register_module()
class FirstBatch(TrainingCrops):
    """The first batch of a training as it reaches the model, with its labels: the file ``first_batch.jpg`` in the work dir.

    Args:
        interval: 0 never; any other number once.
        num_images: Rows of the picture at most.
    """

    def __init__(self, *, interval: int = 1, num_images: int = 8) -> None:
        super().__init__(interval=interval, num_images=num_images)

    def see_training(self, runner, batch: Mapping[str, Any]) -> Drawn:
        if self.interval and runner.iter == 0:
            path = Path(runner.work_dir) / 'first_batch.jpg'
            write_picture(path, self.render(runner, batch))
            runner.logger.info(f'The first batch with its labels: {path}')
        return iter(())


@PICTURES.register_module()
class ValidationImages(Picture):
    """The first validation images with labels, predictions and errors: ``predictions``.

    Args:
        num_images: Rows of the picture.
        interval: Draw at every so many validations; 0 never.
    """

    needs_training = False
    name = 'predictions'

    def __init__(self, *, num_images: int = 4, interval: int = 1) -> None:
        super().__init__(interval=interval)
        self.num_images = num_images
        self._rows: list[dict] = []

    def see_validation(self, runner, batch: Mapping[str, Any], samples: Sequence[SegDataSample]) -> None:
        wanted = samples[: self.num_images - len(self._rows)]
        if wanted:
            names = list(runner.val_dataloader.dataset.metainfo['labels'])
            images = zip(batch['inputs'], wanted, strict=False)
            self._rows += [sample_arrays(image.numpy(), sample, names) for image, sample in images]

    def draw(self, runner) -> Drawn:
        if self._rows:
            rows, self._rows = self._rows, []
            yield self.name, self.render(rows, build_labels(runner.val_dataloader.dataset.metainfo['labels']))

    def render(self, rows: Sequence[dict], labels: Mapping[str, LabelKind]) -> np.ndarray:
        return render_prediction_grid(rows, labels)


@PICTURES.register_module()
class AttentionImages(ValidationImages):
    """The first validation images with labels, predictions and the attention of each class: ``attention``.

    For :class:`ClassConditionalSegmentor`. The maps are computed for the drawn images only.
    """

    name = 'attention'

    def see_validation(self, runner, batch: Mapping[str, Any], samples: Sequence[SegDataSample]) -> None:
        known = len(self._rows)
        super().see_validation(runner, batch, samples)
        added = self._rows[known:]
        if not added:
            return
        model = unwrap(runner.model)
        inputs = model.data_preprocessor(dict(inputs=batch['inputs'][: len(added)]))['inputs']
        for row, attention in zip(added, model.attend(inputs).cpu().numpy(), strict=True):
            row['attention'] = crop_attention(attention, tuple(inputs.shape[-2:]), row['image'].shape[:2])

    def render(self, rows: Sequence[dict], labels: Mapping[str, LabelKind]) -> np.ndarray:
        return render_attention_grid(rows, labels)


@PICTURES.register_module()
class ObservedSamples(Picture):
    """Whole samples of the training and the validation split, always the same, with labels, predictions and errors.

    The pictures are ``observed/train`` and ``observed/val``. Where a head has bins, the histogram ``bins`` has their metres in
    the validation samples; ``show_bins.py`` draws them. The network is the one of the validation: averaged weights where there
    are any.

    Args:
        samples: Positions in the split; those beyond its end are left out.
        interval: Draw at every so many validations; 0 never.
    """

    def __init__(self, *, samples: Sequence[int] = (0, 100), interval: int = 1) -> None:
        super().__init__(interval=interval)
        self.samples = tuple(samples)

    def draw(self, runner) -> Drawn:
        model = getattr(runner.val_loop, 'inference_model', None) or unwrap(runner.model)
        was_training = model.training
        model.eval()
        try:
            for split, loader in dict(train=runner.train_dataloader, val=runner.val_dataloader).items():
                yield from self._draw_split(model, loader.dataset, split)
        finally:
            model.train(was_training)

    def _draw_split(self, model: torch.nn.Module, dataset: Any, split: str) -> Drawn:
        positions = [position for position in self.samples if position < len(dataset)]
        if not hasattr(dataset, 'read_sample') or not positions:
            return
        labels = build_labels(dataset.metainfo['labels'])
        rows = [_predict(model, dataset.read_sample(position), labels, f'{split} {position}') for position in positions]
        yield f'observed/{split}', render_prediction_grid(rows, labels)
        bins = find_bins(model) if split == 'val' else None
        if bins is not None:
            yield 'bins', Histogram.of(np.concatenate([bins.predict(row['image'])[1] for row in rows]))


@PICTURES.register_module()
class ClassMaps(ObservedSamples):
    """Similarity and probability of classes on whole validation samples: ``classes/<position>``.

    Args:
        classes: Names of the classes; all by default.
        samples: As in :class:`ObservedSamples`; so is ``interval``.
    """

    def __init__(self, *, classes: Sequence[str] | None = None, samples: Sequence[int] = (0,), interval: int = 1) -> None:
        super().__init__(samples=samples, interval=interval)
        self.classes = classes

    def _draw_split(self, model: torch.nn.Module, dataset: Any, split: str) -> Drawn:
        if split == 'val' and hasattr(dataset, 'read_sample'):
            for position in self.samples:
                if position < len(dataset):
                    image = np.ascontiguousarray(dataset.read_sample(position)['img'])
                    yield f'classes/{position}', draw_class_maps(model, image, self.classes)


@torch.no_grad()
def draw_class_maps(model: torch.nn.Module, image: np.ndarray, classes: Sequence[str] | None = None) -> np.ndarray:
    """Draw what the first task with classes of a model in evaluation mode gives for an image ``(H, W, 3)`` uint8 RGB."""
    name = next((name for name, task in model.tasks.items() if isinstance(task, SemSegTask)), None)
    if name is None:
        raise ConfigError(f'The model should have a task with classes, a SemSegTask. Found {", ".join(model.tasks)}.')
    names = list(model.data_preprocessor.labels[model.labels[name]].classes)
    unknown = [each for each in classes or () if each not in names]
    if unknown:
        raise ConfigError(f'Classes should be among {", ".join(names)}. Found {", ".join(unknown)}.')
    inputs = model.data_preprocessor(dict(inputs=torch.tensor(image)[None]))['inputs']
    height, width = image.shape[:2]
    logits = model(inputs)[name][0, :, :height, :width].float().cpu().numpy()
    return render_class_maps(image, logits, names, [names.index(each) for each in classes or names])


@PICTURES.register_module()
class ConfusionMatrices(Picture):
    """The confusion matrix of each class map, from the counts that the scores are computed from: ``confusion/<label>``."""

    def draw(self, runner) -> Drawn:
        for metric in runner.val_loop.evaluator.metrics:
            for name, scorer in metric.scorers.items() if isinstance(metric, MultiTaskMetric) else ():
                if isinstance(scorer, ConfusionScorer) and not scorer.is_empty():
                    title = f'{name}, validation at iteration {runner.iter}'
                    yield f'confusion/{name}', to_array(render_confusion_matrix(scorer.confusion, scorer.classes, title))


@torch.no_grad()
def _predict(model: torch.nn.Module, sample: Mapping, labels: Mapping[str, LabelKind], caption: str) -> dict:
    image = np.ascontiguousarray(sample['img'])
    row = dict(image=image, caption=caption, predictions={})
    row['labels'] = {name: kind.to_values(sample[kind.key]) for name, kind in labels.items() if kind.key in sample}
    inputs = model.data_preprocessor(dict(inputs=torch.tensor(image)[None]))['inputs']
    height, width = image.shape[:2]
    for name, values in model.predict_arrays(inputs).items():
        maps = values[0].reshape(-1, *values.shape[-2:])
        row['predictions'][name] = to_values(maps[:, :height, :width])
    return row


def sample_arrays(image: np.ndarray, sample: SegDataSample, names: Iterable[str]) -> dict:
    """Return an image ``(H, W, 3)``, padding included, and its labels and predictions as a row of `render_prediction_grid`."""
    height, width = sample.ori_shape[:2]
    row = {'image': image[:height, :width], 'labels': {}, 'predictions': {}}
    if path := sample.get('img_path'):
        row['caption'] = Path(path).name
    for part, prefix in (('labels', 'gt'), ('predictions', 'pred')):
        for name in names:
            field = f'{prefix}_{sample_field(name)}'
            if field in sample:
                row[part][name] = to_values(sample.get(field).data)
    return row
