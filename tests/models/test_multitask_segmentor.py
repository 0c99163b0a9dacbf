"""The model of several tasks and what it makes of a batch."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from mtl_plugins.labels.depth_codec import decode_depth
from mtl_plugins.models.data_preprocessors import MultiTaskDataPreprocessor
from tests.models.builders import MEAN, STD, build_segmentor, make_batch


def test_a_batch_against_numpy():
    batch = make_batch((5, 7))
    batch['length_scale'] = torch.tensor([1.0, 0.5])
    codes = batch['targets']['depth'].numpy().copy()
    images = batch['inputs'].numpy().copy()
    result = MultiTaskDataPreprocessor(mean=MEAN, std=STD)({**batch, 'metainfo': [dict(a=1), dict(a=2)]}, training=True)
    expected = ((images.astype(np.float64) - MEAN) / STD).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(result['inputs'].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert result['inputs'].is_contiguous(memory_format=torch.channels_last)
    metres = decode_depth(codes) * np.array([1.0, 0.5], np.float32)[:, None, None]
    np.testing.assert_array_equal(result['targets']['depth'].numpy(), metres)
    assert result['targets']['semseg'].dtype == torch.uint8
    assert torch.equal(result['sample_idx'], batch['sample_idx']) and result['metainfo'] == [dict(a=1), dict(a=2)]
    assert np.array_equal(batch['inputs'].numpy(), images) and np.array_equal(batch['targets']['depth'].numpy(), codes)


def test_float_images_stay_as_they_are_and_float_depth_is_metres():
    batch = make_batch((4, 4))
    batch['inputs'] = batch['inputs'].float()
    before = batch['inputs'].clone()
    batch['targets']['depth'] = torch.full((2, 4, 4), 12.5)
    del batch['length_scale'], batch['sample_idx']
    result = MultiTaskDataPreprocessor(mean=MEAN, std=STD)(batch)
    assert torch.equal(batch['inputs'], before) and (result['targets']['depth'] == 12.5).all()
    assert set(result) == {'inputs', 'targets'}


def test_padding_is_black_ignored_and_invalid():
    preprocessor = MultiTaskDataPreprocessor(mean=MEAN, std=STD, size_divisor=8)
    assert not preprocessor.state_dict()
    result = preprocessor(make_batch((5, 9)))
    assert result['inputs'].shape == (2, 3, 8, 16)
    torch.testing.assert_close(result['inputs'][0, :, -1, -1], -torch.tensor(MEAN) / torch.tensor(STD))
    assert (result['targets']['semseg'][:, 5:] == 255).all() and (result['targets']['semseg'][:, :, 9:] == 255).all()
    assert not result['targets']['depth'][:, 5:].any() and not result['targets']['depth'][:, :, 9:].any()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_segmentor()


def test_total_is_the_weighted_sum(model):
    assert model.task_balancing.weights == dict(semseg=0.5, depth=0.5)
    model = build_segmentor(task_balancing=dict(type='FixedWeights', weights=dict(semseg=0.25, depth=2.0)))
    losses = {'semseg/loss_ce': torch.tensor(2.0), 'depth/loss_silog': torch.tensor(3.0, requires_grad=True)}
    total, log = model.parse_losses(losses)
    assert total.item() == 6.5 and total.requires_grad
    assert {key: value.item() for key, value in log.items()} == {'loss': 6.5, 'semseg/loss_ce': 2.0, 'depth/loss_silog': 3.0}
    assert not any(value.requires_grad for value in log.values())


def test_train_step_of_one_image_learns_and_logs_tensors(model):
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    batch = make_batch((32, 32), batch=1)
    before = {name: value.clone() for name, value in model.named_parameters() if name.endswith('weight')}
    first = model.train_step(batch, optimizer)
    assert set(first) == {'loss', 'semseg/loss_ce', 'depth/loss_silog'}
    assert all(isinstance(value, torch.Tensor) and value.ndim == 0 for value in first.values())
    assert all(not torch.equal(value, model.get_parameter(name)) for name, value in before.items())
    for _ in range(3):
        last = model.train_step(batch, optimizer)
    assert last['loss'] < first['loss']


def test_samples_are_cropped_and_carry_what_exists(model):
    model.eval()
    batch = {
        **make_batch((40, 48), tasks=('semseg',)),
        'metainfo': [dict(ori_shape=(33, 48), img_path='a'), dict(ori_shape=(40, 31), img_path='b')],
    }
    with torch.no_grad():
        samples = model.val_step(batch)
        arrays = model.predict_arrays(model.data_preprocessor(batch)['inputs'])
    assert [sample.sample_idx for sample in samples] == [7, 8] and samples[1].img_path == 'b'
    assert samples[0].pred_sem_seg.data.shape == (1, 33, 48) and samples[1].pred_depth_map.data.shape == (1, 40, 31)
    assert torch.equal(samples[0].pred_sem_seg.data[0], arrays['semseg'][0, :33])
    assert torch.equal(samples[1].pred_depth_map.data[0], arrays['depth'][1, :, :31])
    assert torch.equal(samples[0].gt_sem_seg.data[0], batch['targets']['semseg'][0, :33])
    assert 'gt_depth_map' not in samples[0]
    assert arrays['semseg'].dtype == torch.uint8 and arrays['depth'].dtype == torch.float32
    assert arrays['depth'].min() >= 0.0999 and arrays['depth'].max() <= 300.01


def test_memory_format_changes_nothing_but_the_layout():
    torch.manual_seed(0)
    last = build_segmentor().eval()
    first = build_segmentor(channels_last=False).eval()
    first.load_state_dict(last.state_dict())
    inputs = last.data_preprocessor(make_batch((64, 64)))['inputs']
    assert last.backbone.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert first.backbone.layer1[0].conv1.weight.is_contiguous()
    with torch.no_grad():
        torch.testing.assert_close(first(inputs)['semseg'], last(inputs)['semseg'], rtol=1e-4, atol=1e-5)
