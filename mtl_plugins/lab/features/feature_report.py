"""From features to pictures: embedding and neighbours. For the hook and the tools alike."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import orthogonal_procrustes
from torch.utils.data import Dataset

from mtl_plugins.datasets.loading.labelled_dataset import SampleKey
from mtl_plugins.errors import ArgumentError, DataError
from mtl_plugins.lab.features.feature_pictures import NeighbourRow, Scatter, render_embedding, render_neighbours, render_strip
from mtl_plugins.lab.features.feature_record import FeatureRecord
from mtl_plugins.lab.features.feature_scores import check_sklearn, nearest_neighbours
from mtl_plugins.lab.features.features import choose_evenly

PERPLEXITY = 30.0
START_SPREAD = 1e-4
# scikit-learn's 12 shakes an earlier layout up: once classes are apart, their centres then move by 0.5 to 1 of the embedding's
# spread from one state of the network to the next, with 4 by 0.15 to 0.2, at the same divergence.
EXAGGERATION, EXAGGERATION_OF_LATER = 12.0, 4.0


def embed(
    features: np.ndarray, *, previous: np.ndarray | None = None, perplexity: float = PERPLEXITY, seed: int = 0
) -> np.ndarray:
    """A t-SNE embedding ``(N, 2)`` float32 of features ``(N, C)`` by their cosines.

    scikit-learn's Barnes-Hut t-SNE of the features divided by their norms; their squared distance is ``2 - 2 cos``. It starts
    from the first two principal components, or from the embedding of the same images by an earlier state of the network, and
    is turned and mirrored such that it lies closest to that one: a class then stays roughly where it was, unless the features
    moved it. No global random state is used. Features that are all equal, as after a collapse, become one point.

    Args:
        features: At least four.
        previous: Embedding of the same images, ``(N, 2)``.
        perplexity: Neighbours that an image minds; at most a third of the others.
        seed: Of scikit-learn's generator.

    Raises:
        ConfigError: If scikit-learn is not installed.
        ArgumentError: If there are fewer than four features, or ``previous`` is not of as many.
    """
    if len(features) < 4:
        raise ArgumentError(f'`features` should hold at least four images. Found {len(features)}.')
    if previous is not None and previous.shape != (len(features), 2):
        raise ArgumentError(f'`previous` should have the shape {(len(features), 2)}. Found {previous.shape}.')
    check_sklearn()
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    norms = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(norms, np.finfo(np.float32).tiny)
    start = _principal_components(directions) if previous is None or np.ptp(previous) == 0 else previous - previous.mean(0)
    if np.ptp(start) < np.finfo(np.float32).eps:
        return np.zeros((len(features), 2), np.float32)
    tsne = TSNE(
        init=(START_SPREAD * start / start.std(0).max()).astype(np.float32),
        perplexity=min(perplexity, (len(features) - 1) / 3),
        early_exaggeration=EXAGGERATION if previous is None else EXAGGERATION_OF_LATER,
        random_state=seed,
    )
    # Several threads gain nothing at this size, and on busy cores they wait for each other: 25 s instead of 2.
    with threadpool_limits(1):
        embedding = tsne.fit_transform(directions.astype(np.float32))
    embedding -= embedding.mean(0)
    rotation, _ = orthogonal_procrustes(embedding, start)
    return (embedding @ rotation).astype(np.float32)


def _principal_components(directions: np.ndarray) -> np.ndarray:
    """The first two, ``(N, 2)``; the largest coordinate of each is positive, since the sign of a component is arbitrary."""
    centred = directions - directions.mean(0)
    left, values, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    components = np.zeros((len(directions), 2))
    count = min(2, len(values))
    components[:, :count] = left[:, :count] * values[:count]
    signs = np.sign(components[np.abs(components).argmax(0), [0, 1]])
    return components * np.where(signs == 0, 1, signs)


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
