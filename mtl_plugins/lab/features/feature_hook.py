"""Scores, pictures and files of the features of a run after every validation."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import Dataset

from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.lab.features.extraction import FeatureSet, check_splits, choose_evenly, extract_features, with_pipeline
from mtl_plugins.lab.features.feature_scores import NUM_NEIGHBOURS, score_features
from mtl_plugins.lab.features.pictures import (
    FOLDER,
    FeatureRecord,
    choose_queries,
    draw_embedding,
    draw_neighbours,
    draw_strip,
    read_records,
)
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.files import make_folder
from mtl_plugins.visualization.plots import write_picture

# Rows of the picture of neighbours, and neighbours in a row.
NUM_QUERIES, NUM_SHOWN = 6, 8


@HOOKS.register_module()
class FeatureHook(Hook):
    """Compare features of validation images with those of training images, at the start and after every validation.

    The images are those of the run's own data sets, of which an evenly spread part is seen through ``pipeline``; the network is
    the teacher's backbone of :class:`DINO`, or the model's backbone.

    * ``knn_accuracy`` and, if asked for, ``linear_accuracy`` join the metrics of the validation (see :func:`score_features`),
      so that they reach the log, ``metrics.csv``, and the checkpoint hook, whose ``save_best`` may name them. Before the first
      iteration they are only logged: the value of the network as it was initialised.
    * ``<work dir>/features/`` gets ``<moment>.npz`` (a :class:`FeatureRecord` of the validation images), ``tsne_<moment>.png``,
      ``neighbours_<moment>.png`` and ``tsne_strip.png``, the t-SNEs so far. The log backends get the same pictures.

    A run with this hook takes exactly the steps that it takes without: nothing here uses a global random generator. A resumed
    run goes on with the files that belong to what it continues from. With several processes each computes a share.

    Args:
        pipeline: Transforms that give one view, such as `ResizeCrop` and `PackViews`; None for those of the data sets, of whose
            views the first counts.
        num_train: Training images at most; None for all.
        num_val: Validation images at most; None for all.
        k: Nearest neighbours that vote.
        linear: Train a linear classifier too, which takes longer.
        interval: Features and pictures are written at every so many validations; 0 for never.
        num_workers: Threads that read.

    Raises:
        ArgumentError: If a number is out of its range; before the training, if there are fewer than ``k`` training images.
        ConfigError: Before the training, if training and validation images come from the same split, or the best checkpoint is
            to be chosen by a score that there will not be.
    """

    # Before the hooks that log metrics and choose the best checkpoint.
    priority = 'HIGHEST'
    # To those of the evaluator.
    adds_scores = True

    def __init__(
        self,
        *,
        pipeline: Sequence[dict | Callable] | None = None,
        num_train: int | None = 2000,
        num_val: int | None = 500,
        k: int = NUM_NEIGHBOURS,
        linear: bool = False,
        interval: int = 1,
        num_workers: int = 2,
    ) -> None:
        for name, count in dict(num_train=num_train, num_val=num_val, k=k).items():
            if count is not None and count < 1:
                raise ArgumentError(f'`{name}` should be at least 1. Found {count}.')
        if interval < 0:
            raise ArgumentError(f'`interval` should not be negative. Found {interval}.')
        self.pipeline = pipeline
        self.limits = dict(train=num_train, val=num_val)
        self.k, self.linear = k, linear
        self.interval = interval
        self.num_workers = num_workers
        self._datasets: dict[str, Dataset] = {}
        self._indices: dict[str, np.ndarray] = {}
        self._validations = 0

    def before_train(self, runner) -> None:
        if runner.val_loop is None:
            raise ConfigError('FeatureHook needs validation images, and the config has no `val_dataloader`. Add one.')
        loaders = dict(train=runner.train_dataloader, val=runner.val_dataloader)
        check_splits(loaders['train'].dataset, loaders['val'].dataset)
        for split, loader in loaders.items():
            self._datasets[split] = with_pipeline(loader.dataset, self.pipeline)
            self._indices[split] = choose_evenly(len(loader.dataset), self.limits[split])
        if self.k > len(self._indices['train']):
            raise ArgumentError(
                f'`k` of FeatureHook should be at most {len(self._indices["train"])}, its number of training images. Found '
                f'{self.k}.'
            )
        if runner.iter == 0:
            scores = self.look(runner, draw=self.interval > 0)
            self.check_best(runner, scores)
            listed = ', '.join(f'{name} {value:.2f}' for name, value in scores.items())
            runner.logger.info(f'Features before the training: {listed or "no labels"}')

    def check_best(self, runner, scores: dict[str, float]) -> None:
        """Now rather than after the first epoch, refuse to choose the best checkpoint by a score that there will not be."""
        for hook in runner.hooks:
            for name in np.atleast_1d((isinstance(hook, CheckpointHook) and hook.save_best) or []).tolist():
                if name.startswith(('knn_', 'linear_')) and name not in scores:
                    given = ', '.join(scores) or 'no score: the images have no labels'
                    raise ConfigError(f'`save_best` should be a score of the run; FeatureHook gives {given}. Found {name}.')

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if not self._datasets:
            return  # A validation without training has nothing to compare with.
        self._validations += 1
        metrics.update(self.look(runner, draw=self.interval > 0 and self._validations % self.interval == 0))

    def look(self, runner, draw: bool) -> dict[str, float]:
        """Return the scores, the same on all processes; the main one writes files and pictures if asked."""
        model = unwrap(runner.model)
        train, val = (
            extract_features(model, self._datasets[split], self._indices[split], num_workers=self.num_workers)
            for split in ('train', 'val')
        )
        scores = [{}]
        if is_main_process():
            scores[0] = score_features(train, val, k=self.k, linear=self.linear)
        broadcast_object_list(scores)
        if draw and is_main_process():
            self.write(runner, train, val, scores[0].get('knn_accuracy', math.nan))
        return scores[0]

    def write(self, runner, train: FeatureSet, val: FeatureSet, accuracy: float) -> None:
        """Features, t-SNE, strip and neighbours, into the work dir and the log backends."""
        folder = Path(runner.work_dir) / FOLDER
        make_folder(folder)
        if runner.iter == 0:
            name = 'start'
        elif isinstance(runner.train_loop, EpochBasedTrainLoop):
            name = f'epoch {runner.epoch}'
        else:
            name = f'iteration {runner.iter}'
        record = FeatureRecord(val.features, val.labels, val.indices, val.classes, name, runner.iter, accuracy)
        # Those of a run that was stopped later than where this one continues from do not count.
        earlier = [other for other in read_records(folder) if other.iteration < runner.iter and other.shows_same_images(record)]
        record = record.embedded(earlier)
        record.save(folder)
        queries = choose_queries(val.labels, NUM_QUERIES)
        title = f'Nearest training images of validation images, {record.name}'
        pictures = {
            'tsne': draw_embedding(record),
            'tsne_strip': draw_strip([*earlier, record]),
            'neighbours': draw_neighbours(train, val, queries, NUM_SHOWN, title),
        }
        for kind, picture in pictures.items():
            write_picture(folder / (f'{kind}.png' if kind == 'tsne_strip' else f'{kind}_{record.stem}.png'), picture)
            runner.visualizer.add_image(kind, picture, step=runner.iter)
