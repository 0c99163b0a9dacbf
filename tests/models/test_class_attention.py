"""Class-conditional segmentation: attention and loss against written-out formulas, sampling, merging, training."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.config.load import load_config
from mtl_plugins.models.class_attention import KINDS, ClassAttention
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import MODELS
from tests.models.builders import MEAN, STD, build_head, make_batch, make_pyramid
from tests.tiny import CONFIGS, TinyBackbone, shrink_head

CLASSES = 6
SIZE = (40, 56)


def build(head: str = 'ASPPHead', attention: str = 'scaled_dot', task: dict | None = None, **changes):
    torch.manual_seed(0)
    config = dict(
        type='ClassConditionalSegmentor',
        data_preprocessor=dict(type='MultiTaskDataPreprocessor', mean=MEAN, std=STD, size_divisor=16),
        backbone=dict(type=TinyBackbone.__name__),
        decode_head=dict(type='ClassAttentionHead', attention=attention, channels=16, head=dict(type=head, channels=16)),
        tasks=dict(semseg=dict(type='ClassMaskTask', num_classes=CLASSES, **(task or {}))),
    )
    return MODELS.build({**config, **changes})


def preprocessed(model, seed: int = 0, **batch) -> dict:
    return model.data_preprocessor({**make_batch(SIZE, batch=3, tasks=['semseg'], seed=seed, num_classes=CLASSES), **batch})


def score(kind: str, query: np.ndarray, key: np.ndarray, attention: ClassAttention) -> float:
    if kind == 'dot':
        return sum(query * key)
    if kind == 'scaled_dot':
        return sum(query * key) / math.sqrt(len(query))
    if kind == 'cosine':
        cosine = sum(query * key) / math.sqrt(sum(query**2)) / math.sqrt(sum(key**2))
        return math.exp(attention.log_scale.item()) * cosine
    weight = attention.energy.weight[0].numpy()
    return sum(w * math.tanh(q + k) for w, q, k in zip(weight, query, key, strict=True))


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_attention_is_the_written_out_formula(kind):
    torch.manual_seed(0)
    attention = ClassAttention(7, 4, channels=5, kind=kind).double()
    features = torch.randn(2, 7, 3, 4, dtype=torch.float64)
    classes = torch.tensor([[2, 0], [3, 3]])
    maps, queries, attended = attention(features, classes)
    weights = {name: value.numpy() for name, value in attention.named_parameters()}
    for b, n in np.ndindex(2, 2):
        one_hot = np.eye(4)[classes[b, n]]
        query = weights['query.weight'] @ one_hot
        places = [(y, x) for y in range(3) for x in range(4)]
        vectors = [features[b, :, y, x].numpy() for y, x in places]
        powers = [math.exp(score(kind, query, weights['key.weight'] @ vector, attention)) for vector in vectors]
        expected = sum(
            power / sum(powers) * (weights['value.weight'] @ vector + weights['value.bias'])
            for power, vector in zip(powers, vectors, strict=True)
        )
        # The softmax is computed in float32.
        np.testing.assert_allclose([maps[b, n, y, x] for y, x in places], np.array(powers) / sum(powers), rtol=0, atol=1e-6)
        np.testing.assert_allclose(queries[b, n], query, rtol=0, atol=1e-12)
        np.testing.assert_allclose(attended[b, n], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('head', ['ASPPHead', 'DeepLabV3PlusHead'])
@torch.no_grad()
def test_classes_asked_together_get_the_answers_of_classes_asked_alone(head):
    model = build_head(
        type='ClassAttentionHead', head=dict(type=head, channels=8), channels=8, out_channels=dict(semseg=3)
    ).eval()
    pyramid = make_pyramid((64, 96))
    (together,) = model(pyramid)['semseg']
    assert together.shape[:2] == (2, 3)
    for number in range(3):
        (alone,) = model(pyramid, torch.full((2, 1), number))['semseg']
        torch.testing.assert_close(together[:, number], alone[:, 0])
    # The class reaches the decoder, and each image its own class.
    assert (together[:, 0] - together[:, 1]).abs().max() > 1e-2 * together.std()
    (mixed,) = model(pyramid, torch.tensor([[2], [0]]))['semseg']
    torch.testing.assert_close(mixed[:, 0], torch.stack([together[0, 2], together[1, 0]]))
    torch.testing.assert_close(model.attend(pyramid).sum((2, 3)), torch.ones(2, 3))


def test_training_asks_for_one_present_class_or_for_a_share_of_absent_ones():
    task = build().tasks['semseg']
    labels = torch.zeros(3, 2, 4, dtype=torch.uint8)
    labels[0, 0] = torch.tensor([1, 1, 1, 4])
    labels[1, 1] = torch.tensor([255, 255, 0, 5])
    torch.manual_seed(0)
    draws = torch.stack([task.sample_classes(labels) for _ in range(300)])
    counts = torch.stack([torch.bincount(draws[:, image], minlength=5) for image in range(3)])
    # A class with three pixels is as likely as one with one; an image without any is asked for any.
    assert counts[0].nonzero().flatten().tolist() == [0, 3] and abs(counts[0, 0] - 150) < 40
    assert counts[1].tolist() == [0, 0, 0, 0, 300]
    assert (counts[2] > 30).all()
    task.absent_prob = 0.25
    absent = torch.stack([task.sample_classes(labels)[:2] for _ in range(300)])
    assert abs((~torch.isin(absent[:, 0], torch.tensor([0, 3]))).float().mean() - 0.25) < 0.08
    labels[1].view(-1)[:5] = torch.arange(1, 6)  # holds all classes: one of them
    task.absent_prob = 1.0
    asked = torch.stack([task.sample_classes(labels)[:2] for _ in range(100)])
    assert set(asked[:, 0].tolist()) == {1, 2, 4} and set(asked[:, 1].tolist()) == {0, 1, 2, 3, 4}
    masks = task.mask_of(labels, torch.tensor([3, 0, 0]))
    assert masks.dtype == torch.uint8
    assert [mask.unique().tolist() for mask in masks] == [[0, 1], [0, 1, 255], [0]]
    assert masks[0, 0].tolist() == [0, 0, 0, 1]


def reference_loss(logits: np.ndarray, target: np.ndarray, dice_weight: float) -> float:
    entropies, dices = [], []
    for logit, label in zip(logits, target, strict=True):
        pixels = [(1 / (1 + math.exp(-x)), y) for x, y in zip(logit.ravel(), label.ravel(), strict=True) if y != 255]
        entropies += [-math.log(p if y else 1 - p) for p, y in pixels]
        if pixels:
            overlap, total = sum(p * y for p, y in pixels), sum(p + float(y) for p, y in pixels)
            dices.append(1 - (2 * overlap + 1) / (total + 1))
    return np.mean(entropies) + dice_weight * np.mean(dices)


@pytest.mark.parametrize('dice_weight', [0.0, 0.5])
def test_the_loss_of_a_mask_is_its_formula_over_valid_pixels(dice_weight):
    criterion = MODELS.build(dict(type='UpsampledMaskLoss', dice_weight=dice_weight))
    torch.manual_seed(0)
    logits = torch.randn(3, 1, 4, 5, requires_grad=True)
    target = torch.randint(0, 2, (3, 9, 11), dtype=torch.uint8)
    target[0, :4], target[2] = 255, 255
    loss = criterion(logits, target)
    fine = F.interpolate(logits.detach().double(), size=(9, 11), mode='bilinear', align_corners=False).squeeze(1)
    assert loss.item() == pytest.approx(reference_loss(fine.numpy(), target.numpy(), dice_weight), abs=1e-6)
    loss.backward()
    assert logits.grad[0].any() and not logits.grad[2].any()
    logits.grad = None
    nothing = criterion(logits, torch.full_like(target, 255))
    nothing.backward()
    assert nothing.item() == 0 and not logits.grad.any()


def test_the_loss_of_all_classes_is_that_of_the_masks_that_an_image_holds():
    task = build().tasks['semseg']
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 4, 5), torch.zeros(3, 4, 5, dtype=torch.uint8)
    labels[0, 0], labels[0, 1], labels[1, 2] = 4, 1, 255
    labels[1, 3, :2] = 3
    asked = [(0, 0), (0, 3), (1, 2), (2, 0)]  # Image and class number: the last image holds none.
    masks = [np.where(labels[b] == 255, 255, labels[b] == n + 1) for b, n in asked]
    expected = reference_loss(np.stack([logits[b, n] for b, n in asked]).astype(float), np.stack(masks), 0.0)
    assert task.losses([logits], labels)['loss_mask'].item() == pytest.approx(expected, abs=1e-6)


def test_masks_merge_to_the_most_confident_class_above_the_threshold():
    task = build(task=dict(threshold=0.7)).tasks['semseg']
    torch.manual_seed(0)
    logits = 2 * torch.randn(2, 5, 6, 7)
    labels = task.predict(logits, (6, 7))
    assert labels.dtype == torch.uint8
    for b, y, x in np.ndindex(2, 6, 7):
        probabilities = [1 / (1 + math.exp(-value)) for value in logits[b, :, y, x]]
        best = max(range(5), key=probabilities.__getitem__)
        assert labels[b, y, x] == (best + 1 if probabilities[best] > 0.7 else 0)
    assert set(labels.unique().tolist()) == {0, 1, 2, 3, 4, 5}
    for merging, twice in (('mean', 2), ('max', 1)):
        merged = task.merged_view(twice * task.view_values(logits[0], merging, 1.0), 2, merging)
        assert torch.equal(merged, labels[0])


@pytest.mark.parametrize('path', sorted((CONFIGS / 'class_attention').glob('*.py')), ids=lambda path: path.stem)
def test_a_config_trains_every_parameter_and_predicts_the_labels_of_its_data(path):
    config = load_config(str(path), shrink_head(load_config(str(path)).model.decode_head, 'model.decode_head'))
    model = build(**{**config.model, 'backbone': dict(type=TinyBackbone.__name__)})
    task = model.tasks['semseg']
    assert task.num_classes == 1 + len(config.train_dataloader.dataset.classes) == 6
    assert config.default_hooks.checkpoint.save_best == 'metrics_summary/semseg' and not config.submission.enabled
    assert config.test_dataloader == config.val_dataloader
    # Is the one thing that the name of the file says in the config?
    said = dict(dot='dot', cosine='cosine', additive='additive').get(path.stem.split('_')[4], 'scaled_dot')
    assert config.model.decode_head.attention == said
    assert (task.absent_prob > 0) == ('_absent_' in path.stem)
    assert ('init_cfg' in config.model.backbone) == ('_dino_' in path.stem)
    total, logged = model.parse_losses(model(**preprocessed(model), mode='loss'))
    assert set(logged) == {'loss', 'semseg/loss_mask'}
    total.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not [name for name, parameter in model.named_parameters() if parameter.ndim > 1 and not parameter.grad.any()]
    assert model(**preprocessed(model, targets={}), mode='loss')['semseg/loss_mask'] == 0
    assert model.eval().predict_arrays(preprocessed(model)['inputs'])['semseg'].max() < CLASSES


@torch.no_grad()
def test_the_folded_copy_and_the_views_of_tta_predict_what_the_model_predicts():
    model = build().train()
    for seed in range(3):
        model(**preprocessed(model, seed), mode='loss')
    model.eval()
    data = preprocessed(model)
    fast = prepare_for_inference(model)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    outputs, copied = model(data['inputs'])['semseg'], fast(data['inputs'])['semseg']
    assert outputs.shape == (3, CLASSES - 1, 48, 64)
    torch.testing.assert_close(copied, outputs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fast.attend(data['inputs']), model.attend(data['inputs']), rtol=1e-3, atol=1e-5)
    metainfo = [dict(ori_shape=SIZE)] * 3
    samples = model(**data, metainfo=metainfo, mode='predict')
    assert samples[0].pred_sem_seg.data.shape == samples[0].gt_sem_seg.data.shape == (1, *SIZE)
    tta = MODELS.build(dict(type='MultiTaskTTAModel', model=fast, scales=(1.0,), flip=True))
    merged = tta(**data, metainfo=metainfo)
    # Padding is left out of the views, mirroring is averaged: close, not the same.
    agreement = [(a.pred_sem_seg.data == b.pred_sem_seg.data).float().mean() for a, b in zip(samples, merged, strict=True)]
    assert merged[0].pred_sem_seg.data.dtype == torch.uint8 and min(agreement) > 0.5
