"""t-SNE of features, laid out alike from epoch to epoch."""

import numpy as np
from scipy.linalg import orthogonal_procrustes

from mtl_plugins.errors import ArgumentError
from mtl_plugins.lab.features.feature_scores import check_sklearn

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
