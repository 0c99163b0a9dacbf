"""Strategies by gradient against written-out autograd, TorchJD's own results and hand-computed conflicts."""

import copy
import functools
import sys

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from torchjd import aggregation as torchjd

from mtl_plugins.errors import ConfigError
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import OPTIM_WRAPPERS, TASK_UTILS
from mtl_plugins.task_balancing.aggregated_gradients import aggregator_names
from tests import tiny  # noqa: F401  # TinyBackbone
from tests.models.builders import BINS, NARROW, build_segmentor, make_batch
from tests.models.builders import TASKS as MODEL_TASKS
from tests.task_balancing.networks import (
    TASKS,
    Network,
    encoder_part,
    gradients_of_step,
    jacobian,
    make_data,
    make_wrapper,
)

PREFERENCE = dict(semseg=0.5, depth=0.3, normals=0.2)
ARGUMENTS = dict(
    CAGrad=dict(c=0.5),
    FairGrad=dict(alpha=1.0),
    Constant=dict(weights=PREFERENCE),
    UPGrad=dict(pref_vector=PREFERENCE),
    Krum=dict(n_byzantine=0),
    TrimmedMean=dict(trim_number=1),
    NashMTL=dict(max_norm=0.0),
)


def balanced(aggregator, place='parameters', **arguments):
    return dict(type='AggregatedGradients', aggregator=aggregator, arguments=ARGUMENTS.get(aggregator), place=place, **arguments)


def own_result(aggregator, rows):
    """What TorchJD itself makes of the rows."""
    arguments = dict(ARGUMENTS.get(aggregator, {}))
    if aggregator == 'NashMTL':
        arguments['n_tasks'] = len(rows)
    for key, value in arguments.items():
        if isinstance(value, dict):
            arguments[key] = torch.tensor([value[task] for task in TASKS], dtype=rows.dtype)
    torch.manual_seed(0)
    return getattr(torchjd, aggregator)(**arguments)(rows)


AGGREGATORS = aggregator_names()
assert len(AGGREGATORS) >= 19


@pytest.mark.parametrize('aggregator', AGGREGATORS)
def test_each_aggregator_gives_torchjds_own_result(aggregator):
    network, batch = Network(balanced(aggregator)), make_data(16)
    rows, own = jacobian(network, batch)
    assert torch.linalg.matrix_rank(rows) == 3
    found = gradients_of_step(network, batch)
    torch.testing.assert_close(encoder_part(found), own_result(aggregator, rows), rtol=1e-5, atol=1e-6)
    for name, gradient in own.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9)
    logged = network.task_balancing.logged
    norms = rows.norm(dim=1)
    assert logged['balance/norm/depth'] == pytest.approx(norms[1].item())
    assert logged['balance/cosine/semseg-normals'] == pytest.approx((rows[0] @ rows[2] / norms[0] / norms[2]).item(), rel=1e-5)


@pytest.mark.parametrize('aggregator', [name for name in AGGREGATORS if name != 'ExcessMTL'])
def test_each_aggregator_gives_torchjds_own_result_for_features(aggregator):
    """With one sample, the gradient of the encoder's last bias is that of the features."""
    network, batch = Network(balanced(aggregator, 'features')), make_data(1)
    shift = network.encoder[2].bias
    losses = network.task_losses(*batch)
    rows = torch.stack([torch.autograd.grad(loss, shift, retain_graph=True)[0] for loss in losses.values()])
    found = gradients_of_step(network, batch)['encoder.2.bias']
    expected = own_result(aggregator, rows.float() if aggregator in ('GradDrop', 'TrimmedMean') else rows)
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-5)


def test_gradnorm_learns_weights_by_the_gradient_of_its_own_loss():
    network = Network(dict(type='GradNorm', alpha=1.5, place='parameters'))
    balancing, first, second = network.task_balancing, make_data(16), make_data(16, seed=2)
    beginning = np.array([loss.item() for loss in network.task_losses(*first).values()])
    network.step(first, make_wrapper(network))
    weights = balancing.weights.detach().clamp(min=1e-3).double()
    weights = (weights * 3 / weights.sum()).requires_grad_()
    rows, _ = jacobian(network, second)
    ratios = torch.tensor([loss.item() for loss in network.task_losses(*second).values()]) / torch.tensor(beginning)
    norms = (weights[:, None] * rows).norm(dim=1)
    targets = (norms.mean() * (ratios / ratios.mean()) ** 1.5).detach()
    (norms - targets).abs().sum().backward()

    wrapper, found = make_wrapper(network), []
    wrapper.optimizer.register_step_pre_hook(lambda *_: found.append(balancing.weights.grad.clone()))
    before = {name: parameter.detach().clone() for name, parameter in network.encoder.named_parameters()}
    network.step(second, wrapper)
    torch.testing.assert_close(found[0].double(), weights.grad, rtol=1e-4, atol=1e-5)
    moved = torch.cat([((before[name] - p) / 0.1).flatten() for name, p in network.encoder.named_parameters()])
    torch.testing.assert_close(moved, weights.detach() @ rows, rtol=1e-5, atol=1e-6)
    assert balancing.logged['balance/ratio/depth'] == pytest.approx(ratios[1].item(), rel=1e-5)
    assert balancing.logged['balance/weight/depth'] == pytest.approx(weights[1].item(), rel=1e-5)


@pytest.mark.parametrize('kind', [balanced('UPGrad'), dict(type='GradNorm', place='parameters')])
def test_accumulated_parts_of_a_batch_are_the_batch(kind):
    inputs, targets = make_data(16)
    whole, parts = Network(kind), Network(kind)
    wrapper = make_wrapper(parts, accumulative_counts=2)
    wrapper.initialize_count_status(parts, 0, 4)
    optimizer = make_wrapper(whole)
    for _ in range(2):
        whole.step((inputs, targets), optimizer)
        for half in (slice(8), slice(8, 16)):
            parts.step((inputs[half], {task: target[half] for task, target in targets.items()}), wrapper)
    for name, value in whole.state_dict().items():
        # The ratios of GradNorm come from the last part.
        if name.startswith(('encoder', 'heads')) and kind['type'] != 'GradNorm':
            torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-6, atol=1e-6)
    assert parts.task_balancing._iteration == whole.task_balancing._iteration == 2


@pytest.mark.parametrize('place', ['parameters', 'features'])
def test_a_task_without_labels_leaves_the_others_as_they_would_be_without_it(place):
    inputs, targets = make_data(16)
    partial = {task: target for task, target in targets.items() if task != 'depth'}
    found = gradients_of_step(Network(balanced('MGDA', place)), (inputs, partial))
    without = Network(balanced('MGDA', place))
    without.task_balancing = TASK_UTILS.build(dict(balanced('MGDA', place), tasks=['semseg', 'normals']))
    task_losses = without.task_losses
    without.task_losses = lambda *batch: {task: loss for task, loss in task_losses(*batch).items() if task != 'depth'}
    expected = gradients_of_step(without, (inputs, partial))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9)
    assert not found['heads.depth.weight'].any()


@pytest.mark.parametrize('place', ['parameters', 'features'])
@pytest.mark.parametrize('labelled', [('depth',), ()])
def test_one_task_or_none_with_labels(place, labelled):
    network, (inputs, targets) = Network(balanced('NashMTL', place)), make_data(16)
    batch = inputs, {task: targets[task] for task in labelled}
    rows, own = jacobian(network, batch)
    found = gradients_of_step(network, batch)
    torch.testing.assert_close(encoder_part(found), rows.sum(0), rtol=1e-6, atol=1e-12)
    assert all(torch.allclose(found[name], gradient) for name, gradient in own.items())
    # The next step, with all tasks, is as any first one.
    later = gradients_of_step(network, make_data(16, seed=3))
    assert all(gradient.isfinite().all() for gradient in later.values())


def scaled_wrapper(network, monkeypatch, **arguments):
    """mmengine's wrapper of float16 training, on a CPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', functools.partial(torch.amp.GradScaler, 'cpu'))
    return amp_optimizer_wrapper.AmpOptimWrapper(
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1), loss_scale=dict(init_scale=1024.0), **arguments
    )


@pytest.mark.parametrize('place', ['parameters', 'features'])
@pytest.mark.parametrize('kind', ['CAGrad', 'GradDrop', 'GradNorm'])
@pytest.mark.parametrize('clip', [None, dict(max_norm=0.5)])
def test_a_loss_scale_is_taken_out_before_gradients_are_combined(kind, place, clip, monkeypatch):
    strategy = dict(type='GradNorm', place=place) if kind == 'GradNorm' else balanced(kind, place)
    plain, scaled = Network(strategy, dtype=torch.float32), Network(strategy, dtype=torch.float32)
    wrappers = (
        make_wrapper(plain, clip_grad=copy.copy(clip)),
        scaled_wrapper(scaled, monkeypatch, clip_grad=copy.copy(clip)),
    )
    for seed in range(3):
        for network, wrapper in zip((plain, scaled), wrappers, strict=True):
            network.step(make_data(16, seed=seed, dtype=torch.float32), wrapper)
    for name, value in plain.named_parameters():
        torch.testing.assert_close(scaled.get_parameter(name), value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize('place', ['parameters', 'features'])
def test_a_step_with_an_overflow_is_left_out_and_the_scale_halved(place, monkeypatch):
    network = Network(balanced('UPGrad', place), dtype=torch.float32)
    wrapper = scaled_wrapper(network, monkeypatch)
    before = copy.deepcopy(network.state_dict())
    inputs, targets = make_data(16, dtype=torch.float32)
    targets['depth'][0, 0] = 3e38
    network.step((inputs, targets), wrapper)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items() if 'extra' not in name)
    assert wrapper.loss_scaler.get_scale() == 512
    network.step(make_data(16, dtype=torch.float32), wrapper)
    assert not torch.equal(network.encoder[0].weight, before['encoder.0.weight'])
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize('kind', [*(balanced(name) for name in ('GradVac', 'PCD', 'NashMTL', 'ExcessMTL', 'PCGrad', 'GradDrop')),
                                  dict(type='GradNorm')], ids=lambda kind: kind.get('aggregator', kind['type']))  # fmt: skip
def test_the_state_dict_continues_a_run_bit_for_bit(kind):
    batches = [make_data(8, seed=seed) for seed in range(6)]
    # A set of tasks has a state of its own.
    batches[1][1].pop('normals')
    batches[4][1].pop('normals')
    straight, stopped, resumed = (Network(kind) for _ in range(3))
    for batch in batches:
        straight.step(batch, make_wrapper(straight))
    for batch in batches[:3]:
        stopped.step(batch, make_wrapper(stopped))
    # As validation does.
    copy.deepcopy(stopped)
    resumed.load_state_dict(stopped.state_dict())
    for batch in batches[3:]:
        resumed.step(batch, make_wrapper(resumed))
    for name, value in straight.named_parameters():
        assert torch.equal(resumed.get_parameter(name), value), name


def model_with(place, **changes):
    torch.manual_seed(0)
    return build_segmentor(channels=8, backbone=dict(type='TinyBackbone'), task_balancing=balanced('Sum', place), **changes)


@pytest.mark.parametrize('place', ['parameters', 'features'])
@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(head='BranchedHead'),
        dict(head='DistilledHead'),
        # Reads what the heads read and what comes before: the features are those of the encoder.
        dict(auxiliary_head=dict(type='LinearHead', channels=8, index=2, tasks=['semseg'])),
        dict(
            decode_head=dict(type='BranchedHead', head=NARROW, task_heads=dict(depth=BINS)),
            tasks={**MODEL_TASKS, 'depth': dict(type='DepthTask', representation='metres')},
        ),
    ],
    ids=['joint', 'branched', 'distilled', 'nested', 'bins'],
)
def test_the_sum_of_all_gradients_is_that_of_the_sum(changes, place):
    """Whatever is shared, each parameter gets all of its gradients, once."""
    model, batch = model_with(place, **changes), make_batch((32, 32))
    twin = copy.deepcopy(model)
    # Of the network alone, so that BatchNorm and dropout see the same.
    sum(twin.task_losses(twin(**twin.data_preprocessor(batch, True), mode='loss')).values()).backward()
    wrapper, found = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)), {}
    wrapper.optimizer.register_step_pre_hook(lambda *_: found.update((name, p.grad) for name, p in model.named_parameters()))
    log = model.train_step(batch, wrapper)
    for name, parameter in twin.named_parameters():
        scale = parameter.grad.abs().max()
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=float(1e-5 + 1e-4 * scale), msg=name)
    assert {'loss', 'semseg/loss_ce', 'balance/norm/semseg', 'balance/cosine/semseg-depth'} <= set(log)
    assert log['balance/weight/depth'] == 1 and log['balance/norm/depth'] > 0
    # The copy for a validation predicts and is not balanced.
    assert prepare_for_inference(model).predict_arrays(torch.zeros(1, 3, 32, 32))['depth'].shape == (1, 32, 32)


def test_what_is_shared_is_found_in_the_graph(monkeypatch):
    from mtl_plugins.task_balancing import gradient_balancing

    found = {}
    find = gradient_balancing.find_sharing
    monkeypatch.setattr(gradient_balancing, 'find_sharing', lambda *arguments: found.setdefault(id(model), find(*arguments)))
    embeddings = [f'decode_head.heads.{task}.{part}' for task in MODEL_TASKS for part in ('aspp', 'decoder')]
    expected = dict(
        JointHead=(('backbone', 'decode_head.head.aspp', 'decode_head.head.decoder'), 1),
        BranchedHead=(('backbone',), 2),
        DistilledHead=(('backbone', *embeddings), 2),
    )
    for head, (parts, num_features) in expected.items():
        model = model_with('parameters', head=head)
        model.train_step(make_batch((32, 32)), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
        sharing = found.pop(id(model))
        names = {name for name, parameter in model.named_parameters() if any(parameter is each for each in sharing.shared)}
        assert names == {name for name, _ in model.named_parameters() if name.startswith(parts)}
        assert len(sharing.features) == num_features


@pytest.mark.parametrize('place', ['parameters', 'features'])
def test_a_compiled_network_takes_the_same_step(place):
    # Two tasks may not share the buffers that a compiled backward pass gives away.
    def trained(compiled):
        network = Network(balanced('UPGrad', place))
        if compiled:
            network.encoder.compile(backend='aot_eager')
        return gradients_of_step(network, make_data(16))

    plain, compiled = trained(False), trained(True)
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('place', ['parameters', 'features'])
def test_bfloat16_gradients_are_those_of_float32_to_its_precision(place):
    model, half = model_with(place), model_with(place)
    half.load_state_dict(model.state_dict())
    expected = model.train_step(make_batch((32, 32)), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    wrapper = OPTIM_WRAPPERS.build(dict(type='Bf16OptimWrapper', optimizer=torch.optim.SGD(half.parameters(), lr=0.1)))
    found = half.train_step(make_batch((32, 32)), wrapper)
    for name in ('norm/semseg', 'norm/depth'):
        assert found[f'balance/{name}'] == pytest.approx(expected[f'balance/{name}'].item(), rel=0.2)
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in half.parameters())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchjd.aggregation', None)
    with pytest.raises(ConfigError, match=r"needs TorchJD, which is not installed. Run: pip install 'mtl_plugins\[balancing\]'"):
        Network(balanced('UPGrad'))
