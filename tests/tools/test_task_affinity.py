"""Gradients of tasks over training and by layer, against networks whose gradients are known."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mtl_plugins.engine.runner import MultiTaskRunner
from mtl_plugins.lab.analysis.task_affinity import ALL, config_of_run, describe_groups, gradient_products
from mtl_plugins.models.utils.weights import load_pretrained
from mtl_plugins.registry import MODELS

# The gradients of two losses that are linear in their parameters: parallel, opposed, perpendicular.
SLOPES = {
    'encoder.low.weight': ([1.0, 0.0], [3.0, 0.0]),
    'encoder.high.weight': ([0.0, 2.0], [0.0, -1.0]),
    'neck.weight': ([1.0, 1.0], [1.0, -1.0]),
}


class LinearLosses(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ParameterDict({name.replace('.', '/'): nn.Parameter(torch.ones(2)) for name in SLOPES})
        self.own = nn.Parameter(torch.ones(2))

    def named(self):
        return [*((name, self.layers[name.replace('.', '/')]) for name in SLOPES), ('head.weight', self.own)]

    def losses(self, scale=1.0):
        totals = [sum((scale * torch.tensor(SLOPES[name][i]) * p).sum() for name, p in self.named()[:3]) for i in (0, 1)]
        return dict(a=totals[0] + self.own.sum(), b=totals[1])


def test_cosines_and_ratios_are_those_of_known_gradients():
    network = LinearLosses()
    batches = [gradient_products(network.losses(scale), network.named()) for scale in (1.0, 3.0)]
    assert list(batches[0]) == list(SLOPES)
    groups = describe_groups(batches, ['a', 'b'], level=1)
    assert list(groups) == ['encoder', 'neck', ALL] and groups['encoder']['tensors'] == 2
    layers = describe_groups(batches, ['a', 'b'], level=2)
    expected = {'encoder.low': (1, 1 / 3, 0), 'encoder.high': (-1, 2, 1), 'neck': (0, 1, 0)}
    for name, (cosine, ratio, conflicts) in expected.items():
        pair = layers[name]['pairs']['a-b']
        assert (pair['cosine'], pair['ratio'], pair['conflicts']) == pytest.approx((cosine, ratio, conflicts))
    # One after another, the slopes are (1, 0, 0, 2, 1, 1) and (3, 0, 0, -1, 1, -1).
    whole = groups[ALL]['pairs']['a-b']
    assert (whole['cosine'], whole['deviation']) == pytest.approx((1 / (7 * 12) ** 0.5, 0), abs=1e-6)
    assert groups[ALL]['norms'] == pytest.approx(dict(a=2 * 7**0.5, b=2 * 12**0.5))


def test_batches_without_a_gradient_have_no_cosine():
    network = LinearLosses()
    losses = network.losses()
    silent = gradient_products(dict(a=losses['a'], b=0 * losses['b']), network.named())
    pair = describe_groups([silent], ['a', 'b'], 1)['neck']['pairs']['a-b']
    assert pair == dict(cosine=None, deviation=None, conflicts=None, ratio=None)
    opposed = {name: np.array([[1.0, -1.0], [-1.0, 1.0]]) for name in SLOPES}
    pair = describe_groups([silent, opposed], ['a', 'b'], 1)['neck']['pairs']['a-b']
    assert pair['cosine'] == -1 and pair['conflicts'] == 1


@pytest.fixture
def run(finished_run, tmp_path):
    """A run as one by gradients leaves it."""
    folder = tmp_path / 'pcgrad_seed0'
    shutil.copytree(finished_run, folder)
    (log,) = folder.glob('*/vis_data/scalars.json')
    norms = {'balance/norm/semseg': 2.0, 'balance/norm/depth': 8.0}
    rows = [{'iter': number, 'balance/cosine/semseg-depth': -0.5 + 0.01 * number, **norms} for number in range(1, 101)]
    log.write_text('\n'.join(map(json.dumps, rows)) + '\n')
    return folder


def test_a_run_is_shown_over_training_and_by_layer(run_cli, run, tmp_path):
    out = tmp_path / 'out'
    result = run_cli('analysis_tools/task_affinity', run, '--batches', 1, '--out', out).check()
    document = json.loads((out / 'affinity.json').read_text())
    (curves,) = document['curves'].values()
    assert curves.keys() == {'cosine/semseg-depth', 'norm/semseg', 'norm/depth'}
    assert curves['cosine/semseg-depth']['values'][50] == pytest.approx(0.01)
    assert [path.rsplit('/', 1)[1] for path in document['checkpoints']] == ['epoch_1.pth', 'epoch_2.pth']
    pictures = [np.asarray(Image.open(out / f'affinity_{name}.png')) for name in ('over_training', 'by_layer')]
    assert all(picture.std() > 0 for picture in pictures)
    assert 'backbone.stages.0' in result.out and 'semseg-depth' in result.out

    # The gradient of the sum of the losses has the square a^2 + b^2 + 2 ab cos, tensor by tensor.
    config = config_of_run(run)
    model = MODELS.build(config.model)
    load_pretrained(model, run / 'epoch_2.pth')
    data = model.train().data_preprocessor(next(iter(MultiTaskRunner.build_dataloader(config.train_dataloader, seed=0))), True)
    losses = model.task_losses(model(**data, mode='loss'))
    sum(losses.values()).backward()
    groups = document['checkpoints'][str(run / 'epoch_2.pth')]['groups']
    for stage in (0, 4):
        group = groups[f'backbone.stages.{stage}']
        a, b = group['norms'].values()
        square = sum(p.grad.double().square().sum() for p in model.backbone.stages[stage].parameters())
        assert a**2 + b**2 + 2 * a * b * group['pairs']['semseg-depth']['cosine'] == pytest.approx(float(square), rel=1e-3)


def test_a_config_and_its_checkpoint_do_without_a_run(run_cli, finished_run, data_root, tmp_path):
    arguments = [finished_run.parent / 'tiny.py', finished_run / 'epoch_2.pth', '--data-root', data_root, '--batches', 1]
    run_cli('analysis_tools/task_affinity', *arguments, '--level', 1, '--out', tmp_path).check()
    (each,) = json.loads((tmp_path / 'affinity.json').read_text())['checkpoints'].values()
    assert list(each['groups']) == ['backbone', 'decode_head', ALL]
    assert {path.name for path in tmp_path.glob('affinity_*')} == {'affinity_by_layer.png', 'affinity_by_layer.pdf'}


def test_what_cannot_be_measured_is_refused(run_cli, finished_run, tmp_path):
    for arguments, words in (
        ((tmp_path,), '*.pth'),
        ((finished_run.parent / 'tiny.py',), 'checkpoint'),
    ):
        run_cli('analysis_tools/task_affinity', *arguments).check_refused(words)
