"""From features to pictures: embedding and neighbours. For the hook and the tools alike."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from mtl_plugins.datasets.loading.labelled_dataset import SampleKey
from mtl_plugins.errors import DataError
from mtl_plugins.lab.features.embedding import PERPLEXITY, embed
from mtl_plugins.lab.features.feature_pictures import NeighbourRow, Scatter, render_embedding, render_neighbours, render_strip
from mtl_plugins.lab.features.feature_record import FeatureRecord
from mtl_plugins.lab.features.feature_scores import nearest_neighbours
from mtl_plugins.lab.features.features import choose_evenly


def add_embedding(
    record: FeatureRecord, earlier: Sequence[FeatureRecord] = (), *, perplexity: float = PERPLEXITY, seed: int = 0
) -> FeatureRecord:
    """The record with its t-SNE, laid out like that of the newest of the earlier ones, if there is one."""
    previous = earlier[-1].embedding if earlier else None
    return dataclasses.replace(record, embedding=embed(record.features, previous=previous, perplexity=perplexity, seed=seed))


def embed_all(
    records: Sequence[FeatureRecord], limit: int, *, perplexity: float = PERPLEXITY, seed: int = 0
) -> list[FeatureRecord]:
    """At most ``limit`` of the records, evenly chosen with the first and the last, each with its t-SNE anew.

    Raises:
        DataError: If they are not all of the same images.
    """
    chosen: list[FeatureRecord] = []
    for position in choose_evenly(len(records), limit):
        record = records[position]
        if not record.shows_same_images(records[0]):
            raise DataError(
                f'All features of a strip should be of the same images. Found others at {record.name} than at '
                f'{records[0].name}: remove the files of one of the two runs.'
            )
        chosen.append(add_embedding(record, chosen, perplexity=perplexity, seed=seed))
    return chosen


def draw_embedding(record: FeatureRecord) -> np.ndarray:
    """The picture of one state of the network."""
    return render_embedding(_to_scatter(record), record.classes)


def draw_strip(records: Sequence[FeatureRecord]) -> np.ndarray:
    """The picture of all of them, the oldest first."""
    return render_strip([_to_scatter(record) for record in records], records[0].classes)


def _to_scatter(record: FeatureRecord) -> Scatter:
    accuracy = '' if math.isnan(record.accuracy) else f': k-NN {record.accuracy:.1f} %'
    return Scatter(record.embedding, record.labels, f'{record.name}{accuracy}')


def choose_queries(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of ``count`` images, class by class; the classes take turns, so that each has about as many."""
    turns = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        turns[labels == label] = np.arange((labels == label).sum())
    chosen = np.lexsort((labels, turns))[:count]
    return chosen[np.lexsort((chosen, labels[chosen]))]


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Images of a data set with what a network made of them.

    Attributes:
        dataset: Its items are those of `PackViews`; the first view is shown.
        indices: Positions in the data set, ``(N,)``.
        features: ``(N, C)``.
        labels: ``(N,)``, -1 where unknown.
    """

    dataset: Dataset
    indices: np.ndarray
    features: np.ndarray
    labels: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(getattr(self.dataset, 'metainfo', {}).get('classes', ()))

    def image(self, position: int) -> np.ndarray:
        return self.dataset[SampleKey(int(self.indices[position]))]['inputs'][0]


def draw_neighbours(bank: FeatureSet, queries: FeatureSet, positions: np.ndarray, count: int, title: str) -> np.ndarray:
    """The queries at ``positions`` beside the ``count`` nearest of the bank, fewer if it is smaller."""
    similarities, neighbours = nearest_neighbours(queries.features[positions], bank.features, min(count, len(bank.features)))
    rows = [
        NeighbourRow(
            image=queries.image(position),
            label=int(queries.labels[position]),
            neighbours=[bank.image(index) for index in row],
            neighbour_labels=bank.labels[row].tolist(),
            similarities=cosines.tolist(),
        )
        for position, row, cosines in zip(positions, neighbours, similarities, strict=True)
    ]
    return render_neighbours(rows, queries.classes, title)
