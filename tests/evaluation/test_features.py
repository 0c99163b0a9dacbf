"""Features, their scores and their embedding against written-out references."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.datasets.coco.datasets import ObjectCropDataset
from mtl_plugins.errors import CorruptFileError
from mtl_plugins.lab.features import extraction
from mtl_plugins.lab.features.extraction import FeatureSet, estimate_batch_norm, extract_features, pooled_features
from mtl_plugins.lab.features.feature_scores import linear_probe, nearest_neighbours, score_features, score_predictions, vote
from mtl_plugins.lab.features.pictures import FeatureRecord, embed, read_records
from tests.fake_folders import CROP_CLASSES, write_fake_crops
from tests.models.builders import build_dino, build_segmentor

VIEW = [dict(type='ResizeCrop', size=16), dict(type='PackViews')]


@pytest.fixture(scope='module')
def crops(tmp_path_factory):
    root = write_fake_crops(tmp_path_factory.mktemp('crops'), train=5, val=2)
    return {split: ObjectCropDataset(root, split, folder='crops', pipeline=VIEW) for split in ('train', 'val')}


@pytest.fixture
def model():
    return build_dino()


def random_sets(seed: int = 0, size: int = 40, queries: int = 15):
    """Corners of a cube and axes: cosines are multiples of 1/4, without rounding, and many are equal."""
    rng = np.random.default_rng(seed)
    rows = [
        np.where(rng.random((count, 1)) < 0.7, rng.choice([-1, 1], (count, 4)), np.eye(4)[rng.integers(0, 4, count)])
        for count in (size, queries)
    ]
    bank, found = (array.astype(np.float32) for array in rows)
    return bank, rng.integers(0, 4, size), found, rng.integers(0, 4, queries)


@pytest.mark.parametrize('k', [1, 7, 40])
def test_neighbours_are_those_of_a_full_sort_and_equal_ones_come_in_their_order(k, monkeypatch):
    monkeypatch.setattr('mtl_plugins.lab.features.feature_scores.CHUNK', 4)
    bank, _, queries, _ = random_sets()
    similarities, positions = nearest_neighbours(queries, bank, k)
    unit = [F.normalize(torch.from_numpy(rows), dim=1) for rows in (queries, bank)]
    cosines = (unit[0] @ unit[1].T).numpy()
    for row, found, values in zip(cosines, positions, similarities, strict=True):
        expected = sorted(range(len(bank)), key=lambda i: (-row[i], i))[:k]
        assert found.tolist() == expected
        np.testing.assert_array_equal(values, row[expected])
    assert np.abs(similarities).max() <= 1 + 1e-6


@pytest.mark.parametrize('temperature', [0.07, 1.0])
def test_the_vote_is_the_papers_written_out(temperature):
    bank, labels, queries, _ = random_sets(1)
    similarities, positions = nearest_neighbours(queries, bank, 9)
    predicted = vote(similarities, labels[positions], 4, temperature)
    for row, found, answer in zip(similarities, labels[positions], predicted, strict=True):
        votes = [0.0] * 4
        for cosine, label in zip(row, found, strict=True):
            votes[label] += np.exp(np.float64(cosine) / temperature)
        assert votes[answer] == pytest.approx(max(votes), rel=1e-12)
        assert not any(value > votes[answer] * (1 + 1e-12) for value in votes)


def test_the_probe_is_regularised_logistic_regression_on_standardised_features():
    rng = np.random.default_rng(0)
    labels, query_labels = rng.integers(0, 3, 90), rng.integers(0, 3, 60)
    centres = rng.normal(size=(3, 5))
    bank, queries = (
        (centres[found] + rng.normal(size=(len(found), 5))) * [1, 1, 1e4, 1, 1e-3] for found in (labels, query_labels)
    )
    mean, std = bank.mean(0), bank.std(0)
    inputs, targets = torch.from_numpy((bank - mean) / std), torch.from_numpy(labels)
    layer = torch.nn.Linear(5, 3).double()
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=300, tolerance_grad=1e-9, line_search_fn='strong_wolfe')

    def objective():
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(inputs), targets, reduction='sum') + 0.5 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    with torch.no_grad():
        logits = layer(torch.from_numpy((queries - mean) / std))
    certain = (logits.topk(2).values.diff(dim=1).abs() > 0.01).squeeze(1).numpy()
    assert certain.sum() > 50
    predicted = linear_probe(bank, labels, queries)
    np.testing.assert_array_equal(predicted[certain], logits.argmax(1).numpy()[certain])
    with pytest.raises(ValueError, match='at least two classes'):
        linear_probe(bank, np.zeros(90, int), queries)


def test_scores_leave_out_unknown_classes_and_come_per_class_too():
    predicted, labels = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert score_predictions(predicted[[0, 1, 3, 2, 2]], labels[[0, 1, 3, 2, 2]], 'x') == {
        'x': pytest.approx(60),
        'x_per_class': pytest.approx(100 * (1 + 1 / 3) / 2),
    }
    bank, queries = np.eye(2)[[0, 0, 1, 1]], np.eye(2)[[0, 1, 1]]
    # Of unknown class, and nearer to the queries than the others.
    bank, queries = np.vstack([bank, np.eye(2)]), np.vstack([queries, [[1, 1]]])
    train = FeatureSet(None, None, bank, np.array([0, 0, 1, 1, -1, -1]))
    val = FeatureSet(None, None, queries, np.array([0, 1, 0, -1]))
    scores = score_features(train, val, k=2, linear=True)
    assert scores.keys() == {f'{name}_accuracy{end}' for name in ('knn', 'linear') for end in ('', '_per_class')}
    assert scores['knn_accuracy'] == scores['linear_accuracy'] == pytest.approx(200 / 3)
    assert scores['knn_accuracy_per_class'] == pytest.approx(75)
    assert score_features(FeatureSet(None, None, bank, np.full(6, -1)), val) == {}


def test_features_are_the_models_own_in_the_order_asked_for(model, crops):
    indices = [7, 0, 14, 3]
    found = extract_features(model, crops['train'], indices, batch_size=3)
    assert found.labels.tolist() == [1, 0, 2, 0] and found.classes == CROP_CLASSES
    with torch.inference_mode():
        for position, (row, index) in enumerate(zip(found.features, indices, strict=True)):
            np.testing.assert_array_equal(found.image(position), crops['train'][index]['inputs'][0])
            view = torch.from_numpy(crops['train'][index]['inputs'][0])[None]
            inputs = model.data_preprocessor(dict(inputs=view))['inputs']
            torch.testing.assert_close(torch.from_numpy(row), model.eval().teacher.pool(inputs[0])[0])


def test_models_around_the_same_backbone_give_the_same_features(model, crops):
    images = torch.from_numpy(crops['val'][0]['inputs'][0])[None]
    expected = pooled_features(model.eval(), images)
    segmentor = build_segmentor(backbone=dict(type='TinyBackbone')).eval()
    segmentor.backbone.load_state_dict(model.teacher.backbone.state_dict())
    torch.testing.assert_close(pooled_features(segmentor, images), expected)


@pytest.mark.parametrize('world_size', [2, 8])
def test_processes_share_the_work(model, crops, world_size, monkeypatch):
    expected = extract_features(model, crops['val'], range(6))
    monkeypatch.setattr(extraction, 'all_reduce', lambda values, op='sum': values.fill_(8) if op == 'max' else values)
    shares = []
    for rank in range(world_size):
        monkeypatch.setattr(extraction, 'get_dist_info', lambda rank=rank: (rank, world_size))
        shares.append(extract_features(model, crops['val'], range(6)))
    np.testing.assert_allclose(sum(share.features for share in shares), expected.features, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(sum(share.labels for share in shares), expected.labels)
    assert all(share.features.any(axis=-1).sum() <= -(-6 // world_size) for share in shares)


def test_features_that_are_not_finite_are_refused(model, crops):
    torch.nn.init.constant_(model.teacher.backbone.stages[0][0].bias, np.nan)
    with pytest.raises(ValueError, match='should be finite'):
        extract_features(model, crops['val'], range(6))


def test_statistics_of_batch_norm_are_means_over_batches(model, crops):
    model.train()
    estimate_batch_norm(model, crops['train'], range(6), batch_size=3)
    images = torch.from_numpy(np.stack([crops['train'][index]['inputs'][0] for index in range(6)]))
    conv, norm = model.teacher.backbone.stages[0][:2]
    with torch.no_grad():
        maps = [conv(model.data_preprocessor(dict(inputs=batch))['inputs'][0]) for batch in images.split(3)]
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in maps]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in maps]).mean(0))
    assert norm.momentum == 0.1 and norm.training


def make_clusters(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(36) % 3
    return (4 * np.eye(3)[labels].repeat(3, 1) + rng.normal(size=(36, 9))).astype(np.float32), labels


def test_embeddings_are_repeatable_keep_clusters_and_lie_like_the_one_before():
    features, labels = make_clusters()
    first = embed(features)
    np.testing.assert_array_equal(first, embed(features))
    distances = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e9 * np.eye(36)
    assert (labels[distances.argmin(1)] == labels).all()
    # Cosines know no length.
    np.testing.assert_allclose(embed(features * np.linspace(1, 2, 36)[:, None]).std(0), first.std(0), rtol=0.5)
    turned = first @ np.array([[0, -1], [1, 0]])
    following = embed(features + 0.1 * make_clusters(1)[0], previous=turned)
    centres = [np.stack([rows[labels == label].mean(0) for label in range(3)]) for rows in (turned, following)]
    assert np.corrcoef(centres[0].ravel(), centres[1].ravel())[0, 1] > 0.95


def test_collapsed_features_are_a_point_and_too_few_are_refused():
    point = embed(np.ones((8, 5)))
    assert point.shape == (8, 2) and not point.any()
    features, _ = make_clusters()
    assert embed(features[:5], previous=point[:5]).any()
    with pytest.raises(ValueError, match='at least four'):
        embed(features[:3])
    with pytest.raises(ValueError, match=r'\(36, 2\)'):
        embed(features, previous=point)


def test_records_come_back_as_written_in_the_order_of_training(tmp_path):
    features, labels = make_clusters()
    for iteration in (20, 3):
        name = f'epoch {iteration}'
        FeatureRecord(features, labels, np.arange(36), ('a', 'b', 'c'), name, iteration, float('nan'), features[:, :2]).save(
            tmp_path
        )
    assert {path.name for path in tmp_path.iterdir()} == {'epoch_020.npz', 'epoch_003.npz'}
    first, second = read_records(tmp_path)
    assert (first.iteration, second.name, second.classes) == (3, 'epoch 20', ('a', 'b', 'c'))
    np.testing.assert_array_equal(second.features, features)
    assert np.isnan(first.accuracy) and first.shows_same_images(second)
    (tmp_path / 'epoch_004.npz').write_bytes(b'PK')
    with pytest.raises(CorruptFileError, match='epoch_004'):
        read_records(tmp_path)
