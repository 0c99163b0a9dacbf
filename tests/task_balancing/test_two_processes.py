"""Two processes with half a batch each are one with all of it, with labels that one has alone; each process runs this file."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from mtl_plugins.engine.runner import BalancedDataParallel
from tests.models.builders import build_segmentor, make_batch
from tests.task_balancing.networks import Network, make_data, make_wrapper
from tests.tiny import ROOT

BY_GRADIENT = {
    'upgrad': dict(type='AggregatedGradients', aggregator='UPGrad'),
    'graddrop': dict(type='AggregatedGradients', aggregator='GradDrop'),
    'mgda-features': dict(type='AggregatedGradients', aggregator='MGDA', place='features'),
    'gradnorm': dict(type='GradNorm', place='parameters'),
    'gradnorm-features': dict(type='GradNorm', place='features'),
}
BY_LOSS = {
    'uncertainty': dict(type='UncertaintyWeights'),
    'geometric': dict(type='GeometricMean'),
    'logs': dict(type='LogLosses'),
    'dwa': dict(type='DynamicWeightAverage', interval=1),
    'random': dict(type='RandomWeights'),
}


def batch_of_step(step):
    """This process's part of a batch, and factors of losses; the second half has no depth, and no step but one normals."""
    inputs, targets = make_data(8, seed=step)
    targets['depth'] = targets['depth'][:4]
    if step != 1:
        del targets['normals']
    if get_world_size() == 1:
        return inputs, targets, {}
    half = slice(4 * get_rank(), 4 * get_rank() + 4)
    shares = {'depth': 2.0}
    return inputs[half], {task: t[half] for task, t in targets.items() if len(t[half])}, shares


def trained(kind):
    network = Network(kind)
    wrapper = make_wrapper(network)
    balancing = network.task_balancing
    by_gradient = hasattr(balancing, 'take_step')
    if not by_gradient:
        balancing.cut = lambda features: features
    for step in range(4):
        inputs, targets, shares = batch_of_step(step)
        with balancing.step() if by_gradient else nullcontext():
            losses = {task: loss * shares.get(task, 1.0) for task, loss in network.task_losses(inputs, targets).items()}
            if by_gradient:
                balancing.take_step(losses, wrapper)
                continue
        balancing(losses).backward()
        for parameter in network.parameters():
            # As distributed data parallel does.
            all_reduce(parameter.grad, op='mean')
        wrapper.step()
        wrapper.zero_grad()
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def trained_model(place):
    """With fixed weights if ``place`` is None."""
    torch.manual_seed(0)
    balancing = dict(type='AggregatedGradients', aggregator='UPGrad', place=place) if place else None
    model = build_segmentor(backbone=dict(type='TinyBackbone'), channels=8, task_balancing=balancing).train()
    parallel = BalancedDataParallel if place else MMDistributedDataParallel
    stepping = parallel(model, device_ids=None, broadcast_buffers=False) if get_world_size() > 1 else model
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), clip_grad=dict(max_norm=1.0))
    for step in range(2):
        # All have the same images, and the first one alone the depth; the gradients of features are those of each image.
        tasks = ('semseg', 'depth') if get_rank() == 0 or place == 'features' else ('semseg',)
        stepping.train_step(make_batch((32, 32), tasks=tasks, seed=step), wrapper)
    return {name: value.detach() for name, value in model.state_dict().items() if 'extra' not in name}


def results():
    by_kind = {name: trained(kind) for name, kind in {**BY_GRADIENT, **BY_LOSS}.items()}
    return {**by_kind, **{f'model-{place}': trained_model(place) for place in ('parameters', 'features', None)}}


@pytest.mark.dist
def test_two_processes_take_the_steps_of_one(tmp_path):
    command = [sys.executable, '-m', __spec__.name]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / 'store'), str(tmp_path / f'{rank}.pt')],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    expected = results()
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    for kind, parameters in expected.items():
        for name, value in parameters.items():
            assert torch.equal(first[kind][name], second[kind][name]), (kind, name)
            # Buffers of BatchNorm are float32, as the whole of the model.
            tolerance = 1e-4 if kind.startswith('model') else 1e-6
            torch.testing.assert_close(first[kind][name], value, rtol=tolerance, atol=tolerance / 10, msg=f'{kind} {name}')


if __name__ == '__main__':
    rank, store, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    torch.save(results(), target)
    torch.distributed.destroy_process_group()
