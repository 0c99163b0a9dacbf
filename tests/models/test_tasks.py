"""Losses against their definitions; tasks: depth, surface normals, boundaries, and labels that samples lack."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.labels.surface_normals import encode_normals
from mtl_plugins.models.losses import (
    BalancedBoundaryLoss,
    CosineNormalLoss,
    DepthRegressionLoss,
    SILogLoss,
    UpsampledCrossEntropyLoss,
    dense_losses,
    silog_loss,
    upsampled_cross_entropy,
)
from mtl_plugins.models.tasks import BoundaryTask, DepthTask, NormalsTask, SemSegTask
from mtl_plugins.models.tasks.depth import DepthRepresentation
from mtl_plugins.registry import MODELS
from tests.models.builders import TASKS, build_segmentor, make_batch, value_and_gradients


def plain_cross_entropy(logits, target, class_weight=None):
    upsampled = F.interpolate(logits, size=target.shape[-2:], mode='bilinear', align_corners=False)
    return F.cross_entropy(upsampled, target.long(), class_weight, ignore_index=255)


@pytest.mark.parametrize('class_weight', [None, [0.5, 2.0, 0.0, 1.0, 3.0, 0.1, 0.7]])
@pytest.mark.parametrize('elements_at_once', [1, 500, 2**17])
@pytest.mark.parametrize(('coarse', 'fine'), [((8, 8), (32, 32)), ((13, 17), (49, 67)), ((1, 1), (4, 3)), ((6, 5), (6, 5))])
def test_cross_entropy_equals_upsampling_first(coarse, fine, elements_at_once, class_weight, monkeypatch):
    monkeypatch.setattr(dense_losses, 'ELEMENTS_AT_ONCE_CPU', elements_at_once)
    torch.manual_seed(0)
    logits = torch.randn(3, 7, *coarse) * 4
    target = torch.randint(0, 7, (3, *fine), dtype=torch.uint8)
    target[torch.rand(3, *fine) < 0.3] = 255
    target[1] = 255
    weights = None if class_weight is None else torch.tensor(class_weight)
    plain = partial(plain_cross_entropy, target=target, class_weight=weights)
    expected, expected_gradient = value_and_gradients(plain, logits)
    found, gradient = value_and_gradients(partial(UpsampledCrossEntropyLoss(class_weight=class_weight), target=target), logits)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5 * expected_gradient.abs().max().item())


@pytest.mark.parametrize(('class_weight', 'label'), [(None, 255), ([1.0] * 5, 255), ([0.0, 1.0, 1.0, 1.0, 1.0], 0)])
def test_cross_entropy_without_a_pixel_that_counts_is_zero(class_weight, label):
    loss = UpsampledCrossEntropyLoss(class_weight=class_weight)
    value, gradient = value_and_gradients(partial(loss, target=torch.full((2, 9, 9), label)), torch.randn(2, 5, 3, 3))
    assert value == 0 and not gradient.any()
    assert not loss.state_dict()


def test_cross_entropy_of_half_precision_logits():
    torch.manual_seed(0)
    logits = torch.randn(1, 5, 4, 4).bfloat16()
    target = torch.randint(0, 5, (1, 16, 16))
    expected, expected_gradient = value_and_gradients(partial(plain_cross_entropy, target=target), logits.float())
    with torch.autocast('cpu', torch.bfloat16):
        found, gradient = value_and_gradients(partial(upsampled_cross_entropy, target=target), logits)
    assert found.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, expected_gradient.bfloat16())


def test_cross_entropy_refuses_an_unknown_class():
    with pytest.raises((IndexError, RuntimeError), match='out of bounds'):
        upsampled_cross_entropy(torch.randn(1, 3, 2, 2), torch.full((1, 4, 4), 3, dtype=torch.uint8))


def silog_oracle(prediction, target, lambda_, reduction):
    """The definition in float64 NumPy, pixel by pixel."""
    prediction, target = (torch.as_tensor(maps).double().numpy() for maps in (prediction, target))
    groups = [slice(None)] if reduction == 'batch' else [slice(i, i + 1) for i in range(len(target))]
    losses = []
    for group in groups:
        valid = target[group] > 0
        if valid.any():
            error = np.log(target[group][valid]) - np.log(prediction[group][valid])
            losses.append(np.sqrt(error.var() + lambda_ * error.mean() ** 2))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize('reduction', ['batch', 'image'])
@pytest.mark.parametrize('lambda_', [0.0, 0.15, 1.0])
def test_silog_equals_the_oracle(lambda_, reduction):
    random = np.random.default_rng(0)
    prediction = random.uniform(0.5, 200, (3, 9, 11)).astype(np.float32)
    target = random.uniform(4, 300, (3, 9, 11)).astype(np.float32)
    target[random.random(target.shape) < 0.4] = 0
    target[2] = 0
    target[1, 1:] = 0
    loss = SILogLoss(lambda_=lambda_, reduction=reduction)
    found = loss(torch.tensor(prediction), torch.tensor(target), torch.tensor(target > 0))
    assert found.item() == pytest.approx(silog_oracle(prediction, target, lambda_, reduction), rel=1e-5)


@pytest.mark.parametrize('reduction', ['batch', 'image'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('case', ['nothing valid', 'one image without', 'one pixel', 'prediction zero', 'perfect', 'scaled'])
def test_silog_edge_cases(case, dtype, reduction):
    prediction, target = torch.full((2, 3, 4), 11.0), torch.full((2, 3, 4), 20.0)
    target[0, 0] = 7.0
    if case == 'one image without':
        target[1] = 0
    elif case in ('nothing valid', 'one pixel'):
        target.zero_()
        target[1, 2, 3] = 22.0 if case == 'one pixel' else 0
    elif case == 'prediction zero':
        prediction[0, 0, 0] = 0.0
    elif case in ('perfect', 'scaled'):
        prediction = target * (1 if case == 'perfect' else 2)
    prediction = prediction.to(dtype).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        loss = silog_loss(prediction, target.to(dtype), target > 0, reduction=reduction)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite() and prediction.grad.isfinite().all()
    assert not prediction.grad[target == 0].any()
    if case != 'prediction zero':
        assert loss.item() == pytest.approx(silog_oracle(prediction.detach(), target, 0.15, reduction), abs=1e-5)
    assert case not in ('nothing valid', 'perfect') or (loss == 0 and not prediction.grad.any())


@pytest.mark.parametrize('reduction', ['batch', 'image'])
@pytest.mark.parametrize('norm', ['l1', 'l2'])
def test_depth_regression(norm, reduction):
    random = np.random.default_rng(0)
    prediction, target = random.normal(size=(2, 2, 5, 5))
    valid = random.random((2, 5, 5)) < 0.5
    difference = np.abs(prediction - target)[valid]
    expected = difference.mean() if norm == 'l1' else (difference**2).mean()
    found = DepthRegressionLoss(norm=norm)(torch.tensor(prediction), torch.tensor(target), torch.tensor(valid))
    assert found.item() == pytest.approx(expected, rel=1e-6)
    # By image: (mean of the first + mean of the second) / 2, and an image without a valid pixel does not count.
    power = 1 if norm == 'l1' else 2
    means = [(np.abs(prediction - target)[i][valid[i]] ** power).mean() for i in range(2)]
    maps = [np.concatenate([array, array[:1]]) for array in (prediction, target, valid)]
    maps[2][2] = False
    found = DepthRegressionLoss(norm=norm, reduction='image')(*map(torch.tensor, maps))
    assert found.item() == pytest.approx(sum(means) / 2, rel=1e-6)
    leaf = torch.full((1, 2, 2), torch.inf).requires_grad_()
    nothing = DepthRegressionLoss(norm=norm, reduction=reduction)(
        leaf, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)
    )
    nothing.backward()
    assert nothing == 0 and not leaf.grad.any()


def test_cross_entropy_keeps_nothing_at_full_resolution():
    """Four images of 19 x 64 x 64 upsampled logits would be kept by upsampling first; here the largest tensor kept is coarse."""
    kept = []
    logits = torch.randn(4, 19, 16, 16, requires_grad=True)
    target = torch.randint(0, 19, (4, 64, 64), dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        upsampled_cross_entropy(logits, target)
    assert kept and max(kept) <= logits.numel()


@pytest.mark.parametrize(
    ('name', 'statistics', 'half'),
    [
        ('normalised', dict(mean=27.0, std=29.0), 27 + 0.5 * 29),
        ('log', dict(mean=2.9, std=0.8), math.exp(3.3)),
        ('inverse', dict(mean=0.07, std=0.06), 10.0),
        ('exp', None, math.exp(0.5)),
    ],
)
def test_representations_are_what_their_names_say_there_and_back(name, statistics, half):
    representation = DepthRepresentation(name, (0.1, 300.0), statistics)
    assert representation.to_metres(torch.tensor([0.5])).item() == pytest.approx(half)
    depth = torch.tensor([0.1, 1.0, 4.0, 27.0, 299.9])
    torch.testing.assert_close(representation.to_metres(representation.from_metres(depth)), depth, rtol=1e-4, atol=1e-5)
    far_out = torch.tensor([-1e4, 1e4, torch.inf, -torch.inf]).half()
    metres = representation.to_metres(far_out)
    assert metres.dtype == torch.float32 and metres.min() >= 0.0999 and metres.max() <= 300.01
    assert representation.from_metres(torch.zeros(1)).isfinite()


def test_depth_out_of_range_is_trained_back_into_it():
    """Under torch.clamp, a pixel beyond the range gets no gradient and stays there for good."""
    task = DepthTask()
    output = torch.full((1, 1, 2, 2), 9.0, requires_grad=True)
    optimizer = torch.optim.SGD([output], lr=1.0)
    target = torch.full((1, 8, 8), 20.0)
    for _ in range(300):
        optimizer.zero_grad()
        task.loss(output, target).backward()
        optimizer.step()
    torch.testing.assert_close(task.predict(output, (8, 8)), target, rtol=0.5, atol=0)


@pytest.mark.parametrize('task', [SemSegTask(num_classes=3), DepthTask()])
def test_no_label_no_loss_but_a_gradient(task):
    predictions = [torch.full((2, task.out_channels, 4, 4), 6e4, dtype=torch.float16, requires_grad=True) for _ in range(2)]
    (loss,) = task.losses(predictions, None).values()
    loss.backward()
    assert loss == 0 and all(p.grad is not None and not p.grad.any() for p in predictions)


@pytest.mark.parametrize('norm', ['l1', 'l2'])
def test_regression_compares_representations(norm):
    task = DepthTask(representation='normalised', loss=dict(type='DepthRegressionLoss', norm=norm))
    target = torch.full((1, 4, 4), 27.0727 + 2 * 29.1264)
    target[0, 0] = 0
    loss = task.losses([torch.zeros(1, 1, 1, 1)], target)[f'loss_{norm}']
    assert loss.item() == pytest.approx(2.0 if norm == 'l1' else 4.0, rel=1e-5)


FOUR = dict(**TASKS, normals=dict(type='NormalsTask'), boundary=dict(type='BoundaryTask'))


def vectors(*shape, seed=0):
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def four_labels(size=(33, 47), batch=2, seed=0):
    """A batch with all four labels, as the collate function gives it."""
    made = make_batch(size, batch=batch, seed=seed)
    rng = np.random.default_rng(seed)
    made['targets']['normals'] = torch.from_numpy(encode_normals(rng.normal(size=(batch, *size, 3))))
    made['targets']['boundary'] = torch.from_numpy(rng.choice([0, 1, 255], (batch, *size), p=[0.8, 0.1, 0.1]).astype(np.uint8))
    return made


def test_the_loss_of_normals_is_the_mean_of_one_minus_cosine():
    prediction, target = 3 * vectors(2, 3, 4, 5), vectors(2, 3, 4, 5, seed=1)
    valid = torch.rand(2, 4, 5) > 0.4
    terms = [
        1 - float(prediction[b, :, y, x] @ target[b, :, y, x]) / float(prediction[b, :, y, x].norm())
        for b, y, x in valid.nonzero().tolist()
    ]
    assert float(CosineNormalLoss()(prediction, target, valid)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize('scale', [0.0, 1e-30, 1.0])
@pytest.mark.parametrize('labelled', [True, False])
def test_no_direction_and_no_label_give_no_nan(scale, labelled):
    prediction, valid = (scale * vectors(1, 3, 4, 5)).requires_grad_(), torch.full((1, 4, 5), labelled)
    loss = CosineNormalLoss()(prediction, vectors(1, 3, 4, 5, seed=1), valid)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert loss.isfinite() and gradient.isfinite().all()
    assert labelled or (loss == 0 and not gradient.any())


def test_the_loss_of_boundaries_balances_both_kinds():
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.tensor(np.random.default_rng(0).choice([0, 1, 255], (2, 4, 5), p=[0.7, 0.2, 0.1]).astype(np.uint8))
    values = [(float(x), int(y)) for x, y in zip(logits.flatten(), target.flatten(), strict=True) if y != 255]
    weight = sum(y == 0 for _, y in values) / len(values)
    expected = 0.0
    for x, y in values:
        probability = 1 / (1 + math.exp(-x))
        expected -= weight * math.log(probability) if y else (1 - weight) * math.log(1 - probability)
    loss = BalancedBoundaryLoss()
    assert float(loss(logits, target)) == pytest.approx(expected / len(values), rel=1e-5)
    logits.requires_grad_()
    nothing = loss(logits, torch.full_like(target, 255))
    assert nothing == 0 and not torch.autograd.grad(nothing, logits)[0].any()


def test_predictions_are_unit_vectors_and_probabilities():
    prediction = torch.randn(2, 3, 4, 5)
    prediction[0, :, 1, 1] = 0
    normals = NormalsTask().predict(prediction, (4, 5))
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, 4, 5))
    assert normals[0, :, 1, 1].tolist() == [0, 0, 1]
    probabilities = BoundaryTask().predict(prediction[:, :1], (9, 11))
    assert probabilities.shape == (2, 9, 11) and 0 < probabilities.min() < probabilities.max() < 1


def test_a_mirrored_view_has_mirrored_normals():
    """The normals of a mirrored image, mirrored back: every view of a scene that is its own mirror image agrees."""
    task = NormalsTask()
    view = vectors(1, 3, 4, 6)
    own_mirror = view + view.flip(-1) * torch.tensor([-1.0, 1, 1]).view(1, 3, 1, 1)
    torch.testing.assert_close(task.mirror(own_mirror), own_mirror)
    torch.testing.assert_close(task.mirror(task.mirror(view)), view)
    assert torch.equal(BoundaryTask().mirror(view[:, :1]), view[:, :1].flip(-1))


@pytest.mark.parametrize('head', ['JointHead', 'BranchedHead', 'DistilledHead'])
def test_four_tasks_train_predict_and_merge_views(head):
    torch.manual_seed(0)
    model = build_segmentor(head=head, tasks=FOUR)
    data = model.data_preprocessor(four_labels())
    assert data['targets']['normals'].shape == (2, 3, 33, 47)
    total, logged = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert {'normals/loss_cosine', 'boundary/loss_bce'} <= logged.keys()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    model.eval()
    metainfo = [dict(ori_shape=(30, 41))] * 2
    (sample, _) = model(data['inputs'], data['targets'], metainfo=metainfo, mode='predict')
    assert sample.pred_normals.data.shape == sample.gt_normals.data.shape == (3, 30, 41)
    assert sample.pred_boundary.data.shape == (1, 30, 41)

    plain = model.predict_arrays(data['inputs'])
    augmented = MODELS.build(dict(type='MultiTaskTTAModel', model=model, scales=(1.0,), flip=True))
    merged = augmented.predict_arrays(data['inputs'])
    assert {name: maps.shape for name, maps in merged.items()} == {name: maps.shape for name, maps in plain.items()}
    # By hand: mirror the image, mirror the prediction back with x negated, take the direction of the mean.
    mirrored = model.predict_arrays(data['inputs'].flip(-1))['normals'].flip(-1) * torch.tensor([-1.0, 1, 1]).view(1, 3, 1, 1)
    expected = torch.nn.functional.normalize(plain['normals'] + mirrored, dim=1)
    torch.testing.assert_close(merged['normals'], expected, atol=1e-3, rtol=1e-3)


def test_a_task_learns_the_label_that_it_names():
    model = build_segmentor(
        tasks=dict(classes=dict(type='SemSegTask', label='semseg'), far=dict(type='DepthTask', label='depth'))
    )
    reference = build_segmentor()
    reference.load_state_dict(model.state_dict())
    data = model.data_preprocessor(four_labels())
    renamed, plain = model(**data, mode='loss'), reference(**data, mode='loss')
    assert renamed['classes/loss_ce'] == plain['semseg/loss_ce'] and renamed['far/loss_silog'] == plain['depth/loss_silog']
    assert set(model.predict_arrays(data['inputs'])) == {'semseg', 'depth'}
    (sample, _) = model.eval()(data['inputs'], data['targets'], mode='predict')
    assert 'gt_sem_seg' in sample and 'pred_depth_map' in sample


@pytest.mark.parametrize(('task', 'blank'), dict(semseg=255, depth=0, normals=0, boundary=255).items())
def test_training_on_samples_without_a_label_is_training_on_the_others(task, blank):
    torch.manual_seed(0)
    # BatchNorm, which sees all images, labelled or not, takes its running statistics.
    model = build_segmentor(tasks=FOUR).eval()
    full = four_labels(batch=3)
    lacking = {**full, 'targets': {name: maps.clone() for name, maps in full['targets'].items()}}
    lacking['targets'][task][1] = blank
    kept = torch.tensor([0, 2])
    subset = dict(inputs=full['inputs'][kept], targets={name: maps[kept] for name, maps in full['targets'].items()})

    def gradients(batch):
        model.zero_grad()
        losses = model(**model.data_preprocessor(batch), mode='loss')
        loss = next(value for name, value in losses.items() if name.startswith(f'{task}/loss_'))
        loss.backward()
        return loss.detach(), [parameter.grad.clone() for parameter in model.decode_head.parameters()]

    loss, found = gradients(lacking)
    expected_loss, expected = gradients(subset)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-6)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-6)
