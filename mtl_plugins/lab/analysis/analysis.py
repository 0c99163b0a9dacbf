"""Models over one split, analysed and compared: scores, errors by group, images by rank, examples."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader

from mtl_plugins.errors import ConfigError, EvaluationError
from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.lab.analysis.split_analysis import SplitAnalysis, choose_best_median_worst
from mtl_plugins.lab.samples import labels_of, predict_samples
from mtl_plugins.lab.tables import Table, print_table, to_markdown
from mtl_plugins.loading import checkpoint_digest, load_model
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.models.utils.model_stats import count_parameters
from mtl_plugins.utils.cli import track
from mtl_plugins.utils.data_files import printable

BACKGROUND = 'background'
ERROR = 'error/'


@dataclass(frozen=True)
class TrainedModel:
    """A model to be analysed: its heading, paths, number of parameters, and the network with folded BatchNorm."""

    name: str
    config: str
    checkpoint: str
    parameters: int
    model: nn.Module = field(repr=False)

    @classmethod
    def load(cls, name: str, config: Config, checkpoint: str, advice: str | None = None) -> 'TrainedModel':
        """Load a model onto the GPU, if there is one; arguments and errors are those of :func:`load_model`."""
        model = load_model(config, checkpoint, advice)
        fast = prepare_for_inference(model).to('cuda' if torch.cuda.is_available() else 'cpu')
        return cls(name, str(config.filename), checkpoint, count_parameters(model), fast)


@dataclass
class Analysis:
    """Predictions of a model on a split, compared with the labels.

    ``images`` has of each sample in order ``position``, ``name`` and what :meth:`SplitAnalysis.add` says of it.
    """

    trained: TrainedModel
    split: SplitAnalysis
    images: list[dict] = field(default_factory=list)

    def describe(self) -> dict:
        """As plain numbers, for a JSON file; NaN becomes None."""
        return dict(
            name=self.trained.name,
            config=self.trained.config,
            checkpoint=self.trained.checkpoint,
            checkpoint_sha256=checkpoint_digest(self.trained.checkpoint),
            parameters=self.trained.parameters,
            scores={name: None if np.isnan(value) else value for name, value in self.split.scores().items()},
            confusion={name: matrix.tolist() for name, matrix in self.split.confusions().items()},
            errors=[table.describe() for table in self.split.tables],
        )


def analyse(models: Sequence[TrainedModel], loader: DataLoader) -> tuple[list[Analysis], list[int | None]]:
    """Run the models over the split; each sees the same images and labels. Memory grows by a few numbers per image.

    Returns:
        An analysis for each, and of each image the class but the background that covers most of it in the first class map of
        the data; None if there is none.

    Raises:
        ConfigError: If the split has no labels, or models have no label in common.
        EvaluationError: If a prediction cannot be scored.
    """
    labels = labels_of(loader)
    predicted = [each.model.label_names for each in models]
    if not set(predicted[0]).intersection(*predicted[1:]):
        found = '; '.join(f'{", ".join(names)} ({each.name})' for each, names in zip(models, predicted, strict=True))
        raise ConfigError(f'The models should predict a label in common. Found {found}.')
    analyses = [Analysis(each, SplitAnalysis(labels, names)) for each, names in zip(models, predicted, strict=True)]
    class_map = next((name for name, kind in labels.items() if kind.is_class_map), None)
    largest = []
    samples = predict_samples([each.model for each in models], loader)
    for sample in track(samples, len(loader.dataset), 'Predicting'):
        for analysis, predictions in zip(analyses, sample.predictions, strict=True):
            try:
                own = analysis.split.add(sample.values, predictions)
            except (TypeError, ValueError) as error:
                raise EvaluationError(f'Cannot evaluate {sample.name}: {error}') from error
            analysis.images.append(dict(position=sample.position, name=sample.name, **own))
        largest.append(
            _largest_class(sample.values[class_map], labels[class_map].classes) if class_map in sample.values else None
        )
    return analyses, largest


def choose_examples(largest: Sequence[int | None], count: int) -> list[int]:
    """Positions of ``count`` images: the classes that cover most of them take turns, of each the first images of the split.

    Nothing of it depends on predictions. Without classes they are evenly spread over the split.
    """
    buckets: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(largest):
        if label is not None:
            buckets[label].append(position)
    if not buckets:
        return np.unique(np.linspace(0, len(largest) - 1, min(count, len(largest))).round().astype(int)).tolist()
    turns = [bucket[turn] for turn in range(count) for _, bucket in sorted(buckets.items()) if turn < len(bucket)]
    return turns[:count]


def check_indices(indices: Sequence[int] | None, number: int) -> None:
    """Raise `ConfigError` if one is no position of the ``number`` images."""
    for index in indices or ():
        if not 0 <= index < number:
            raise ConfigError(f'`--indices` should be in 0..{number - 1}, the images of the split. Found {index}.')


def rank_images(analysis: Analysis, score: str, count: int) -> dict[str, list[dict]]:
    """The ``best``, ``median`` and ``worst`` images of a run, ``count`` of each, by a score of the image alone.

    A score that no image has is a `ConfigError`.
    """
    images = analysis.images
    known = list(dict.fromkeys(name for image in images for name in image if name not in ('position', 'name')))
    values = np.array([image.get(score, np.nan) for image in images], np.float64)
    if score not in known or np.isnan(values).all():
        raise ConfigError(f'`--by` should be a score that an image has: {", ".join(known)}. Found {score}.')
    chosen = choose_best_median_worst(values, count, analysis.split.rule_of(score) == 'less')
    return {rank: [images[position] for position in positions] for rank, positions in chosen.items()}


def make_document(analyses: Sequence[Analysis], loader: DataLoader, provenance: Mapping) -> dict:
    """All numbers of an analysis or comparison, for a JSON file."""
    dataset = loader.dataset
    labels = {name: list(kind.classes) if kind.is_class_map else None for name, kind in labels_of(loader).items()}
    return dict(
        schema_version=2,
        provenance=dict(provenance),
        data=dict(root=str(dataset.data_root), split=dataset.split, images=len(dataset), labels=labels),
        models=[analysis.describe() for analysis in analyses],
    )


def _largest_class(label: np.ndarray, classes: Sequence[str]) -> int | None:
    """The class but the background with the most pixels; None if there is none."""
    counts = np.bincount(label.ravel(), minlength=256)[: len(classes)]
    counts = np.where([name == BACKGROUND for name in classes], 0, counts)
    return int(counts.argmax()) if counts.any() else None


def score_tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """Yield a table of the summaries, then one of each label, its classes first; of two models with the difference.

    Four decimals are shown where all values of a row are below 1.
    """
    models = document['models']
    names = [printable(model['name']) for model in models] + ['difference'] * (len(models) == 2)
    known = list(dict.fromkeys(name for model in models for name in model['scores']))
    for heading in ('summary', *document['data']['labels']):
        prefix = 'metrics_summary/' if heading == 'summary' else f'metrics_task_{heading}/'
        rows = []
        for name in known:
            if name.startswith(prefix):
                values = [model['scores'].get(name) for model in models]
                some = [value for value in values if value is not None]
                digits = 4 if 0 < max(map(abs, some), default=0) < 1 else 2
                cells = ['' if value is None else f'{value:.{digits}f}' for value in values]
                if len(values) == 2:
                    cells.append(f'{values[1] - values[0]:+.{digits}f}' if len(some) == 2 else '')
                title = name.removeprefix(prefix)
                rows.append([title_of(name, title) if heading == 'summary' else title, *cells])
        if rows or heading == 'summary':
            yield Table([heading, *names], rows)


def print_comparison(document: Mapping[str, Any]) -> None:
    """Print the tables."""
    data = document['data']
    for number, table in enumerate(score_tables(document)):
        print_table(table, None if number else f'{data["images"]} images of {data["split"]}')


def comparison_in_markdown(document: Mapping[str, Any]) -> str:
    """Return the tables with what they were made from."""
    data, made = document['data'], document['provenance']
    changes = ' with uncommitted changes' if made['uncommitted_changes'] else ''
    origin = (
        f'Classes: IoU in per cent, one confusion matrix over all {data["images"]} images of the split `{data["split"]}` of '
        f'`{data["root"]}`. Commit {(made["commit"] or "unknown")[:10]}{changes}, {made["date"]}, {made["device"]}, torch '
        f'{made["versions"]["torch"]}.\n'
    )
    models = [
        [
            *(model['name'], f'`{model["config"]}`', f'`{model["checkpoint"]}`'),
            *(model['checkpoint_sha256'][:12], f'{model["parameters"]:,}'),
        ]
        for model in document['models']
    ]
    table = Table(['model', 'config', 'checkpoint', 'sha256', 'parameters'], models)
    return '\n'.join([*map(to_markdown, score_tables(document)), origin, to_markdown(table)])
