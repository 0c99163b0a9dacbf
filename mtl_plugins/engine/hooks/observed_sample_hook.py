"""The same few samples after every validation."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mtl_plugins.evaluation.metrics.streaming_metric import to_values
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.models.decode_heads.model_bins import ModelBins, find_bins
from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.bins import render_bins
from mtl_plugins.visualization.prediction_grid import render_prediction_grid
from mtl_plugins.visualization.visualizer import Histogram, Visualizer


@HOOKS.register_module()
class ObservedSampleHook(Hook):
    """Draw whole samples of the training and the validation split, always the same, with labels, predictions and errors.

    The pictures are ``observed/train`` and ``observed/val``. Where a head has bins, ``observed/bins`` shows those of the
    validation samples under the distribution of the values, and the histogram ``bins`` has their metres. The network is the one
    of the validation: averaged weights where there are any.

    Args:
        samples: Positions in the split; those beyond its end are left out.
        interval: Draw at every so many validations; 0 never.

    Raises:
        ValueError: If ``interval`` or a position is negative, or there is no position.
    """

    priority = 'LOW'

    def __init__(self, *, samples: Sequence[int] = (0, 100), interval: int = 1) -> None:
        if interval < 0:
            raise ValueError(f'`interval` should not be negative. Found {interval}.')
        if not samples or min(samples) < 0:
            raise ValueError(f'`samples` should hold positions >= 0. Found {samples}.')
        self.samples = tuple(samples)
        self.interval = interval
        self._validations = 0

    @master_only
    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if runner._train_loop is None or isinstance(runner._train_loop, dict):
            return  # a validation without training
        self._validations += 1
        if not self.interval or self._validations % self.interval:
            return
        model = getattr(runner.val_loop, 'inference_model', None)
        if model is None:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        was_training = model.training
        model.eval()
        try:
            self.draw(runner, model)
        finally:
            model.train(was_training)

    def draw(self, runner, model: torch.nn.Module) -> None:
        """Hand the pictures of both splits to the log back ends."""
        for split, loader in dict(train=runner.train_dataloader, val=runner.val_dataloader).items():
            dataset = loader.dataset
            positions = [position for position in self.samples if position < len(dataset)]
            if not hasattr(dataset, 'read_sample') or not positions:
                continue
            labels = build_labels(dataset.metainfo['labels'])
            rows = [self.look(model, dataset.read_sample(position), labels, f'{split} {position}') for position in positions]
            runner.visualizer.add_image(f'observed/{split}', render_prediction_grid(rows, labels), step=runner.iter)
            bins = find_bins(model) if split == 'val' else None
            if bins is not None and bins.label in labels:
                self.draw_bins(runner, bins, labels[bins.label], rows)

    @staticmethod
    @torch.no_grad()
    def look(model: torch.nn.Module, sample: Mapping, labels: Mapping[str, LabelKind], caption: str) -> dict:
        """The row of a picture: a sample with its predictions."""
        image = np.ascontiguousarray(sample['img'])
        row = dict(image=image, caption=caption, predictions={})
        row['labels'] = {name: kind.to_values(sample[kind.key]) for name, kind in labels.items() if kind.key in sample}
        inputs = model.data_preprocessor(dict(inputs=torch.tensor(image)[None]))['inputs']
        height, width = image.shape[:2]
        for name, values in model.predict_arrays(inputs).items():
            maps = values[0].reshape(-1, *values.shape[-2:])
            row['predictions'][name] = to_values(maps[:, :height, :width])
        return row

    @staticmethod
    def draw_bins(runner, model_bins: ModelBins, kind: LabelKind, rows: Sequence[Mapping]) -> None:
        """Where the bins of each sample are."""
        shown = []
        for row in rows:
            prediction, bins = model_bins.predict(row['image'])
            shown.append(dict(image=row['image'], prediction=prediction, bins=bins))
            if kind.name in row['labels']:
                shown[-1]['label'] = row['labels'][kind.name]
        picture = render_bins(shown, kind, model_bins.value_range)
        runner.visualizer.add_image('observed/bins', picture, step=runner.iter)
        if isinstance(runner.visualizer, Visualizer):
            histogram = Histogram.of(np.concatenate([row['bins'] for row in shown]))
            runner.visualizer.add_histograms({'bins': histogram}, step=runner.iter)
