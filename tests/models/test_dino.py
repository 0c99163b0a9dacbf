"""DINO against a written-out NumPy reference, torch's own weight normalisation and closed forms."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtl_plugins.config.load import load_config
from mtl_plugins.evaluation.metrics import DINOMetric
from mtl_plugins.models.dino import dino_terms, sinkhorn_centre
from mtl_plugins.registry import MODELS
from tests.models.builders import build_dino

NUM_OUTPUTS = 24


def make_logits(num_views: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-scale, scale, (num_views, 3, NUM_OUTPUTS))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def reference_terms(student, teacher, centre, student_temperature, teacher_temperature):
    """Loss, entropy and divergence of each image, one pair at a time, in float64."""
    num_views, batch, _ = student.shape
    loss, entropy, kl = np.zeros((3, batch))
    pairs = [(i, j) for i in range(len(teacher)) for j in range(num_views) if i != j]
    for image in range(batch):
        for i, j in pairs:
            p = softmax((teacher[i, image] - centre) / teacher_temperature)
            q = softmax(student[j, image] / student_temperature)
            loss[image] -= (p * np.log(q)).sum() / len(pairs)
            kl[image] += (p * np.log(p / q)).sum() / len(pairs)
        for logits in teacher[:, image]:
            p = softmax((logits - centre) / teacher_temperature)
            entropy[image] -= (p * np.log(p)).sum() / len(teacher)
    return loss, entropy, kl


def make_views(sizes=(32, 32, 16, 16, 16), batch: int = 3, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, size, size, generator=generator) for size in sizes]


@pytest.mark.parametrize('num_global', [1, 2])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_loss_and_its_terms_are_the_written_out_ones(dtype, tolerance, num_global):
    student, teacher, centre = make_logits(5, 0), make_logits(num_global, 1), make_logits(1, 2, scale=0.3)[0, 0]
    expected = reference_terms(student, teacher, centre, 0.1, 0.04)
    tensors = [torch.tensor(array, dtype=dtype) for array in (student, teacher, centre)]
    terms = dino_terms(*tensors, student_temperature=0.1, teacher_temperature=0.04)
    for found, reference in zip(terms[:3], expected, strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.numpy(), reference, rtol=tolerance, atol=tolerance)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        within = dino_terms(*tensors, student_temperature=0.1, teacher_temperature=0.04)
    assert torch.equal(within.loss, terms.loss)


def test_the_sinkhorn_centre_is_the_written_out_normalisation_of_rows_and_columns():
    logits = make_logits(2, 0, scale=0.3).reshape(6, -1) + np.linspace(0, 0.4, NUM_OUTPUTS)
    shares = np.exp(logits / 0.05)
    for _ in range(3):
        shares /= shares.sum(0)
        shares /= shares.sum(1, keepdims=True)
    centre = sinkhorn_centre(torch.tensor(logits), 0.05).numpy()
    np.testing.assert_allclose([softmax(row) for row in (logits - centre) / 0.05], shares, rtol=1e-9, atol=1e-12)
    converged = sinkhorn_centre(torch.tensor(logits), 0.05, iterations=200).numpy()
    mean = np.mean([softmax(row) for row in (logits - converged) / 0.05], axis=0)
    np.testing.assert_allclose(mean, 1 / NUM_OUTPUTS, rtol=1e-6)
    cold = torch.eye(NUM_OUTPUTS)[:5] * 2 - 1
    assert ((cold - sinkhorn_centre(cold, 0.003)) / 0.003).softmax(-1).isfinite().all()


def networks_of(model, views):
    """Logits of student and teacher, by copies: a forward pass in training changes their statistics."""
    with torch.no_grad():
        return copy.deepcopy(model.student)(views), copy.deepcopy(model.teacher)(views[:2])


def check_losses(losses, student, teacher, centre, rtol=1e-5):
    expected = reference_terms(*(tensor.double().numpy() for tensor in (student, teacher, centre)), 0.1, 0.04)
    for name, values in zip(('loss_dino', 'entropy', 'kl'), expected, strict=True):
        assert losses[name].item() == pytest.approx(values.mean(), rel=rtol), name


def test_the_loss_uses_the_centre_of_the_batches_before_which_is_a_moving_average_of_the_teachers_logits():
    model = build_dino(centre_momentum=0.8).train()
    model.centre.uniform_(-0.2, 0.2)
    for seed in range(3):
        views, before = make_views(seed=seed), model.centre.clone()
        student, teacher = networks_of(model, views)
        check_losses(model(views, mode='loss'), student, teacher, before)
        torch.testing.assert_close(model.centre, 0.8 * before + 0.2 * teacher.mean((0, 1)))


def test_sinkhorn_centring_serves_its_own_batch_and_its_average_serves_validation():
    model = build_dino(centring='sinkhorn', centre_momentum=0.75).train()
    model.centre.uniform_(-0.2, 0.2)
    before = model.centre.clone()
    views = make_views()
    student, teacher = networks_of(model, views)
    own = sinkhorn_centre(teacher.flatten(0, 1), 0.04)
    losses = model(views, mode='loss')
    check_losses(losses, student, teacher, own, 1e-4)
    assert losses['marginal_entropy'].item() == pytest.approx(math.log(NUM_OUTPUTS), rel=1e-3)
    torch.testing.assert_close(model.centre, 0.75 * before + 0.25 * own)

    student, teacher = networks_of(model.eval(), views)
    with torch.no_grad():
        check_losses(model(views, mode='loss'), student, teacher, model.centre)


def test_the_head_is_torchs_weight_normalised_layer_on_unit_vectors():
    head = MODELS.build(dict(type='DINOHead', in_channels=8, hidden_channels=16, bottleneck_channels=6, out_channels=10))
    oracle = nn.utils.parametrizations.weight_norm(nn.Linear(6, 10, bias=False))
    with torch.no_grad():
        oracle.parametrizations.weight.original0.fill_(1)
        oracle.parametrizations.weight.original1.copy_(head.last_layer.weight)
    features = torch.randn(5, 8)
    layers = [layer for layer in head.mlp if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [16, 16, 6]
    hidden = F.gelu(layers[1](F.gelu(layers[0](features))))
    bottleneck = layers[2](hidden)
    expected = oracle(bottleneck / bottleneck.norm(dim=1, keepdim=True))
    torch.testing.assert_close(head(features), expected)
    assert head(features).abs().max() <= 1
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert head.last_layer(bottleneck.bfloat16()).dtype == torch.float32


def test_views_of_one_size_share_a_pass_and_keep_their_order():
    model = build_dino().eval()
    views = make_views()
    sizes = []
    model.student.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        together = model.student(views)
        assert sizes == [(6, 3, 32, 32), (9, 3, 16, 16)]
        for view, logits in zip(views, together, strict=True):
            torch.testing.assert_close(model.student([view])[0], logits)


VIT = dict(type='TimmBackbone', name='vit_tiny_patch16_224', options=dict(depth=1))


@pytest.mark.parametrize('backbone', [None, VIT], ids=['convolutions', 'transformer'])
def test_the_student_learns_all_its_parameters_and_the_teacher_none(backbone):
    model = build_dino(backbone).train()
    student, teacher = model.student.state_dict(), model.teacher.state_dict()
    assert all(torch.equal(value, teacher[name]) for name, value in student.items())
    total, logged = model.parse_losses(model(make_views(), mode='loss'))
    total.backward()
    assert set(logged) == {'loss', 'loss_dino', 'entropy', 'kl', 'marginal_entropy'}
    assert not any(value.requires_grad for value in logged.values())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.teacher.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.student.parameters() if parameter.ndim > 1)


def test_the_teachers_batchnorm_keeps_its_own_statistics_and_its_dropout_rests():
    model = build_dino(backbone=dict(type='TimmBackbone', name='resnet10t')).train()
    model.teacher.backbone.append = nn.Dropout(0.5)
    model.train()
    norms = [module for module in model.teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(norm.training for norm in norms) and not model.teacher.backbone.append.training
    model(make_views(sizes=(64, 64, 32)), mode='loss')
    teacher, student = (network.backbone.state_dict() for network in (model.teacher, model.student))
    means = [name for name in teacher if name.endswith('running_mean')]
    # The student also sees the local views.
    assert all(teacher[name].any() and not torch.equal(teacher[name], student[name]) for name in means)
    model.eval()
    assert not any(norm.training for norm in norms)


def test_validation_gives_the_terms_of_each_image_and_changes_nothing():
    model = build_dino().eval()
    model.centre.uniform_(-0.2, 0.2)
    model.teacher_temperature.fill_(0.06)
    state = copy.deepcopy(model.state_dict())
    metric = DINOMetric()
    batches = [make_views(seed=0), make_views(seed=1)]
    terms, probabilities = [], []
    with torch.no_grad():
        for number, views in enumerate(batches):
            metric.process(None, model(views, sample_idx=torch.arange(3) + 3 * number, mode='predict'))
            student, teacher = (tensor.double().numpy() for tensor in (model.student(views), model.teacher(views[:2])))
            terms.append(reference_terms(student, teacher, model.centre.numpy(), 0.1, 0.06))
            shifted = (teacher - model.centre.double().numpy()) / 0.06
            probabilities += [softmax(logits) for logits in shifted.reshape(6, -1)]
    scores = metric.evaluate(6)
    for name, values in zip(('loss', 'entropy', 'kl'), np.concatenate(terms, axis=1), strict=True):
        assert scores[f'dino/{name}'] == pytest.approx(values.mean(), rel=1e-5)
    mean = np.mean(probabilities, axis=0)
    assert scores['dino/marginal_entropy'] == pytest.approx(-(mean * np.log(mean)).sum(), rel=1e-5)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model(batches[0], mode='loss')
    assert torch.equal(model.centre, state['centre'])


@pytest.mark.parametrize('backbone', [dict(type='DilatedResNet'), dict(type='TimmBackbone', name='convnext_atto')])
def test_weights_of_the_teacher_start_any_backbone_elsewhere(backbone, tmp_path):
    model = build_dino(backbone=backbone)
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(0.01)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'run.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'run.pth'), prefix='teacher.backbone.')
    loaded = MODELS.build({**backbone, 'init_cfg': start})
    loaded.init_weights()
    images = make_views(sizes=(64,))[0]
    with torch.no_grad():
        expected = loaded.eval()(images)[-1].mean((2, 3))
        torch.testing.assert_close(model.eval()(images, mode='tensor'), expected)
        torch.testing.assert_close(model([images]), expected)
    # A pretrained student is copied into the teacher.
    started = build_dino(backbone={**backbone, 'init_cfg': start})
    started.init_weights()
    states = [getattr(started, name).state_dict() for name in ('student', 'teacher')]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert torch.equal(started.student.backbone.state_dict()[name := next(iter(loaded.state_dict()))], loaded.state_dict()[name])


CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs' / 'dino').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_of_dino_learns_from_what_it_loads(path):
    config = load_config(str(path))
    (views,) = (step for step in config.train_dataloader.dataset.pipeline if step.type == 'MultiCrop')
    assert path.stem.endswith(f'-{views.global_size}x{views.global_size}')
    assert config.default_hooks.dino_schedule.temperature_epochs <= config.train_cfg.max_epochs
    assert not config.submission.enabled and 'test_dataloader' not in config
    assert config.val_dataloader.dataset.pipeline[0] == views

    config.model.projection_head.update(hidden_channels=16, bottleneck_channels=8, out_channels=NUM_OUTPUTS)
    model = MODELS.build(config.model).train()
    batch = [torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8) for side in (32, 32, *[16] * views.num_local)]
    total, _ = model.parse_losses(model(**model.data_preprocessor(dict(inputs=batch), True), mode='loss'))
    total.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.student.parameters())
