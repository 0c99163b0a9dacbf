import math

import pytest
import torch

from mtl_plugins.models.tasks import DepthTask, SemSegTask
from mtl_plugins.models.tasks.depth import DepthRepresentation


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
