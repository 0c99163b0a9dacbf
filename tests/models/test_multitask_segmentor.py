import pytest
import torch
from mmengine.optim import OptimWrapper

from tests.models.builders import build_segmentor, make_batch


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
