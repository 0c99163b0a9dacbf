"""Scores of features by class: nearest neighbours by cosine, and a linear probe. Labels are used for judging only.

Axes: Q queries, B bank (what queries are compared with), K neighbours, C channels.
"""

import numpy as np
import torch
import torch.nn.functional as F

from mtl_plugins.errors import ArgumentError
from mtl_plugins.lab.features.extraction import FeatureSet

UNKNOWN = -1
NUM_NEIGHBOURS = 20
TEMPERATURE = 0.07
CHUNK = 1024


def nearest_neighbours(queries: np.ndarray, bank: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar of the bank ``(B, C)`` for each query ``(Q, C)``: cosines float32 and positions int64 ``(Q, K)``.

    The best come first. Exact: among equal cosines the lower position comes first, also where they decide who is among the k.
    """
    if not 1 <= k <= len(bank):
        raise ArgumentError(f'`k` should be between 1 and the size of the bank, {len(bank)}. Found {k}.')
    bank_BC = F.normalize(torch.as_tensor(bank, dtype=torch.float32), dim=1)
    results = []
    for chunk in torch.as_tensor(queries, dtype=torch.float32).split(CHUNK):
        similarity_QB = F.normalize(chunk, dim=1) @ bank_BC.T
        last_Q1 = similarity_QB.topk(k).values[:, -1:]
        above_QB, equal_QB = similarity_QB > last_Q1, similarity_QB == last_Q1
        free_Q1 = k - above_QB.sum(1, keepdim=True)
        chosen_QB = above_QB | (equal_QB & (equal_QB.cumsum(1) <= free_Q1))
        position_QK = chosen_QB.nonzero()[:, 1].view(-1, k)
        similarity_QK, order_QK = similarity_QB.gather(1, position_QK).sort(dim=1, descending=True, stable=True)
        results.append((similarity_QK.numpy(), position_QK.gather(1, order_QK).numpy()))
    similarities, positions = zip(*results, strict=True)
    return np.concatenate(similarities), np.concatenate(positions)


def vote(similarities: np.ndarray, labels: np.ndarray, num_classes: int, temperature: float = TEMPERATURE) -> np.ndarray:
    """The class ``argmax_c sum_k [label_k = c] exp(cosine_k / temperature)`` of each query, ``(Q,)``; the lower of equals.

    The vote of DINO's k-NN classifier (arXiv 2104.14294, after 1805.01978), with 20 neighbours and the temperature 0.07.
    ``similarities`` and ``labels`` are those of the neighbours, ``(Q, K)``.
    """
    # Shifted by the largest possible cosine, so that nothing overflows.
    weights = np.exp((similarities.astype(np.float64) - 1) / temperature)
    votes = (weights[..., None] * (labels[..., None] == np.arange(num_classes))).sum(1)
    return votes.argmax(1)


def linear_probe(bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Classes ``(Q,)`` by a linear classifier trained on the bank.

    Multinomial logistic regression (scikit-learn's ``LogisticRegression``: L2 penalty with C = 1, L-BFGS, at most 1000
    iterations) on features standardised to mean 0 and variance 1 by the bank.
    """
    if len(np.unique(bank_labels)) < 2:
        raise ArgumentError('`bank_labels` should hold at least two classes. Found one.')
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
    # Threads that wait for each other on busy cores take ten times as long as one.
    with threadpool_limits(1):
        return probe.fit(bank.astype(np.float64), bank_labels).predict(queries.astype(np.float64))


def score_features(train: FeatureSet, val: FeatureSet, *, k: int = NUM_NEIGHBOURS, linear: bool = True) -> dict[str, float]:
    """Per cent of the validation images whose class is found from the training images; unknown classes, -1, count in neither.

    ``knn_accuracy`` and, if asked for, ``linear_accuracy``, over all images; the same with ``_per_class`` is the mean over
    classes. Nothing if no image of either set has a class.
    """
    bank, bank_labels = (values[train.labels != UNKNOWN] for values in (train.features, train.labels))
    queries, query_labels = (values[val.labels != UNKNOWN] for values in (val.features, val.labels))
    if not len(bank) or not len(queries):
        return {}
    similarities, positions = nearest_neighbours(queries, bank, k)
    predicted = vote(similarities, bank_labels[positions], int(bank_labels.max()) + 1)
    scores = score_predictions(predicted, query_labels, 'knn_accuracy')
    if linear:
        scores |= score_predictions(linear_probe(bank, bank_labels, queries), query_labels, 'linear_accuracy')
    return scores


def score_predictions(predicted: np.ndarray, labels: np.ndarray, name: str) -> dict[str, float]:
    """Accuracy in per cent under ``name``, and its mean over the classes that occur in ``labels`` under ``<name>_per_class``."""
    right = predicted == labels
    per_class = [right[labels == label].mean() for label in np.unique(labels)]
    return {name: 100 * float(right.mean()), f'{name}_per_class': 100 * float(np.mean(per_class))}
