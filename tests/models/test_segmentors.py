"""The model of several tasks on one view, and on several against written-out merges: all views in a list, stacked, reduced."""

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import nn

from mtl_plugins.errors import CheckpointError
from mtl_plugins.labels.depth_codec import decode_depth
from mtl_plugins.models.data_preprocessors import MultiTaskDataPreprocessor
from mtl_plugins.models.test_time_augs import MultiTaskTTAModel
from mtl_plugins.models.utils.inference import prepare_for_inference
from tests.models.builders import MEAN, STD, TASKS, build_segmentor, make_batch
from tests.test_overfit import measure, render_crops

PREPROCESSOR = dict(type='MultiTaskDataPreprocessor', mean=MEAN, std=STD, size_divisor=16)
JOINT = dict(backbone=dict(type='TinyBackbone'), data_preprocessor=PREPROCESSOR, channels=8)


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    model = build_segmentor(channels=8, data_preprocessor=PREPROCESSOR)
    # Without training, one class is the largest everywhere.
    predictor = next(module for name, module in model.named_modules() if name.endswith('predictor'))
    images = normalised(model.eval(), (48, 64))
    with torch.no_grad():
        predictor.weight[:19] /= model.decode(images)['semseg'][-1].std(dim=(0, 2, 3)).view(-1, 1, 1, 1)
        predictor.bias[:19] -= model.decode(images)['semseg'][-1].mean(dim=(0, 2, 3))
    return model


def normalised(model, size, **options):
    return model.data_preprocessor(make_batch(size, **options))['inputs']


@torch.no_grad()
def stacked_views(model, images, scaled_sizes, flips):
    """Logits and metres of each view, upright and at full size: ``(V, B, C, H, W)`` by task."""
    views = {name: [] for name in model.tasks}
    for scaled_size in scaled_sizes:
        for flip in flips:
            view = F.interpolate(images, size=scaled_size, mode='bilinear', align_corners=False)
            predictions = model.decode(view.flip(3) if flip else view)
            for name in views:
                output = F.interpolate(predictions[name][-1], size=images.shape[2:], mode='bilinear', align_corners=False)
                views[name].append(output.flip(3) if flip else output)
    return {name: torch.stack(outputs).double() for name, outputs in views.items()}


REFERENCES = dict(
    mean=lambda logits: logits.softmax(2).mean(0),
    max=lambda logits: logits.softmax(2).max(0).values,
    log=lambda output: output.mean(0).squeeze(1).exp(),
    metres=lambda output: output.exp().mean(0).squeeze(1),
    farthest=lambda output: output.exp().max(0).values.squeeze(1),
    median=lambda output: output.exp().quantile(0.5, dim=0).squeeze(1),
)


@pytest.mark.parametrize(('semseg', 'depth'), [('mean', 'log'), ('max', 'metres'), ('mean', 'max'), ('mean', 'median')])
@pytest.mark.parametrize('flip', [False, True])
def test_streaming_is_stacking(network, semseg, depth, flip):
    images = normalised(network, (48, 64))
    merge = dict(semseg=semseg, depth=depth)
    found = MultiTaskTTAModel(model=network, scales=(0.5, 1.0, 1.3), flip=flip, merge=merge).predict_arrays(images)
    # 1.3 * 48 = 62.4 and 1.3 * 64 = 83.2, to multiples of 16; 0.5 * 48 = 24 is as near to 16 as to 32.
    views = stacked_views(network, images, [(32, 32), (48, 64), (64, 80)], (False, True)[: 1 + flip])
    probabilities = REFERENCES[semseg](views['semseg'])
    assert found['semseg'].dtype == torch.uint8 and found['depth'].dtype == torch.float32
    assert len(found['semseg'].unique()) > 5 and not found['depth'].requires_grad
    chosen = probabilities.gather(1, found['semseg'].long()[:, None]).squeeze(1)
    assert (probabilities.max(1).values - chosen).max() < 1e-6
    metres = REFERENCES['farthest' if depth == 'max' else depth](views['depth'])
    torch.testing.assert_close(found['depth'].double(), metres, rtol=1e-6, atol=1e-6)


def test_each_task_has_its_own_scales(network):
    images = normalised(network, (48, 64))
    lists = dict(depth=(0.7, 1.0), semseg=(1.0, 1.3, 1.7))
    augmented = MultiTaskTTAModel(model=network, scales=lists)
    found = augmented.predict_arrays(images)
    for task, scales in lists.items():
        alone = MultiTaskTTAModel(model=network, scales=scales).predict_arrays(images)
        torch.testing.assert_close(found[task], alone[task])
    assert augmented.describe().startswith('8 views (scale semseg: 1, 1.3, 1.7; depth: 0.7, 1, each also mirrored), merging')


@pytest.mark.parametrize('scales', [(1.0,), (1.0, 1.0), [1]])
@pytest.mark.parametrize('size', [(48, 64), (45, 61)])
def test_identity_views_are_the_model_itself(network, scales, size):
    data = network.data_preprocessor(make_batch(size))
    data['metainfo'] = [dict(ori_shape=size)] * 2
    augmented = MultiTaskTTAModel(model=network, scales=scales, flip=False)
    with torch.no_grad():
        expected, found = network(**data, mode='predict'), augmented(**data)
    for plain, merged in zip(expected, found, strict=True):
        assert torch.equal(plain.pred_sem_seg.data, merged.pred_sem_seg.data)
        assert torch.equal(plain.pred_depth_map.data, merged.pred_depth_map.data)
        assert plain.sample_idx == merged.sample_idx and torch.equal(plain.gt_depth_map.data, merged.gt_depth_map.data)


class SeesSizes(nn.Module):
    """Stands for a network that infers distance from size: ``40 m / zoom`` for images of width 64."""

    out_channels = dict(depth=1)

    def forward(self, features):
        height, width = features[1].shape[2:]
        metres = 40.0 / (width * 4 / 64)
        return dict(depth=[torch.full((len(features[1]), 1, height, width), metres)])


def test_scale_compensation_undoes_what_zoom_does_to_metres():
    model = build_segmentor(**JOINT, tasks=dict(depth=dict(type='DepthTask', representation='metres'))).eval()
    model.decode_head = SeesSizes()
    images = torch.zeros(2, 3, 32, 64)

    def predict(scales, **options):
        (values,) = MultiTaskTTAModel(model=model, scales=scales, **options).predict_arrays(images)['depth'].unique()
        return values.item()

    for merge in (None, dict(depth='metres')):
        assert predict((0.5, 1.0, 2.0), scale_compensation=True, merge=merge) == pytest.approx(40.0, rel=1e-5)
    assert predict((0.5, 2.0)) == pytest.approx(40.0, rel=1e-5)
    assert predict((1.0,), scale_compensation=True) == pytest.approx(40.0, rel=1e-5)
    assert predict((0.5, 1.0, 2.0), merge=dict(depth='metres')) == pytest.approx((80 + 40 + 20) / 3, rel=1e-5)
    model.tasks['depth'].depth_range = (0.1, 30.0)
    assert predict((2.0,), scale_compensation=True) == 30.0


@torch.no_grad()
def test_padding_is_left_out_and_images_of_one_batch_may_differ_in_size(network):
    augmented = MultiTaskTTAModel(model=network, scales=(1.0, 2.0))
    sizes = [(32, 40), (24, 48), (32, 40)]
    inputs = torch.full((3, 3, 32, 48), torch.nan)
    torch.manual_seed(0)
    for image, (height, width) in zip(inputs, sizes, strict=True):
        image[:, :height, :width] = torch.rand(3, height, width)
    metainfo = [dict(ori_shape=size) for size in sizes]
    samples = augmented(inputs, metainfo=metainfo)
    for image, sample, (height, width) in zip(inputs, samples, sizes, strict=True):
        alone = augmented.predict_arrays(image[None, :, :height, :width])
        assert sample.pred_sem_seg.shape == sample.pred_depth_map.shape == (height, width)
        torch.testing.assert_close(sample.pred_depth_map.data, alone['depth'], rtol=1e-6, atol=1e-6)
        assert (sample.pred_sem_seg.data == alone['semseg']).float().mean() > 0.999


def test_the_predictions_of_a_view_are_gone_before_the_next_one(network, monkeypatch):
    images = normalised(network, (48, 64))
    alive, views = [], []
    decode = network.decode

    def watched(view):
        assert not any(reference() is not None for reference in alive)
        views.append(view.shape)
        predictions = decode(view)
        alive.extend(weakref.ref(maps[-1]) for maps in predictions.values())
        return predictions

    monkeypatch.setattr(network, 'decode', watched)
    MultiTaskTTAModel(model=network, scales=(1.0, 1.3, 0.5), flip=True).predict_arrays(images)
    assert len(views) == 6


@pytest.mark.parametrize(('task', 'other'), [('semseg', 'depth'), ('depth', 'semseg')])
def test_single_tasks_and_the_inference_copy(task, other):
    model = build_segmentor(**JOINT, tasks={task: TASKS[task]}).eval()
    augmented = MultiTaskTTAModel(model=prepare_for_inference(model, dtype=torch.bfloat16))
    (sample,) = augmented.test_step(make_batch((32, 48), batch=1, tasks=(task,)))
    fields = dict(semseg='sem_seg', depth='depth_map')
    assert sample.get(f'pred_{fields[task]}').shape == (32, 48)
    assert f'pred_{fields[other]}' not in sample and f'gt_{fields[task]}' in sample


ATTENTION = dict(type='ScaleAttentionSegmentor', scales=(1.0, 0.5))


@pytest.mark.parametrize('trained', [False, True])
def test_attention_weighs_the_scales_of_each_pixel(trained):
    """The mean of the scales at first."""
    torch.manual_seed(0)
    model = build_segmentor(**JOINT, **ATTENTION).eval()
    first, _, last = model.attention
    if trained:
        nn.init.normal_(last.weight, std=3.0)
        nn.init.normal_(last.bias)
    images = normalised(model, (48, 64))

    def resize(maps, size):
        return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)

    with torch.no_grad():
        half, whole = model.encode(resize(images, (32, 32))), model.encode(images)
        both = torch.cat([resize(half[4], whole[4].shape[2:]), whole[4]], dim=1)
        scores = F.conv2d(F.conv2d(both, first.weight, first.bias, padding=1).relu(), last.weight, last.bias)
        coarse, fine = model.decode_head(half), model.decode_head(whole)
        found = model.decode(images)
    for number, task in enumerate(('semseg', 'depth')):
        size = fine[task][0].shape[2:]
        weight = resize(scores[:, 2 * number : 2 * number + 2], size).softmax(1)
        assert (weight.std() > 0.01) if trained else torch.equal(weight, torch.full_like(weight, 0.5))
        expected = weight[:, :1] * resize(coarse[task][0], size) + weight[:, 1:] * fine[task][0]
        (merged,) = found[task]
        torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


def test_attention_is_as_good_as_the_mean_or_better_on_a_trained_model_that_stays_as_it_is(tmp_path):
    def train(model):
        optimizer = OptimWrapper(torch.optim.Adam(model.train().parameters(), lr=1e-2))
        return [model.train_step(data, optimizer)['loss'].item() for _ in range(60)]

    torch.manual_seed(0)
    joint, data = build_segmentor(**JOINT), render_crops(4)
    train(joint)
    torch.save(dict(state_dict=joint.state_dict()), tmp_path / 'joint.pth')
    means = measure(MultiTaskTTAModel(model=joint.eval(), scales=(1.0, 0.5), flip=False), data)
    model = build_segmentor(**JOINT, **ATTENTION, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'joint.pth')))
    model.init_weights()
    losses, scores = train(model), measure(model, data)
    assert losses[-1] < losses[0] and scores['semseg'] >= means['semseg'] and scores['depth'] <= means['depth']
    trained = model.state_dict()
    for name, value in joint.state_dict().items():
        assert torch.equal(trained[name], value), name


def test_attention_that_trains_all_charges_each_scale_too(tmp_path):
    model = build_segmentor(**JOINT, **ATTENTION, frozen=False).train()
    losses = model(**model.data_preprocessor(make_batch((32, 48)), True), mode='loss')
    names = [f'ce_{place}' for place in ('initial', 'intermediate1', 'final')]
    torch.testing.assert_close(losses['semseg/loss_ce'], sum(losses[f'semseg/{name}'] for name in names) / 3)
    sum(losses[f'{task}/loss_{name}'] for task, name in (('semseg', 'ce'), ('depth', 'silog'))).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    model.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'empty.pth'))
    with pytest.raises(CheckpointError, match='do not fit ScaleAttentionSegmentor'):
        model.init_weights()


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


@pytest.mark.parametrize('kind', [{}, dict(type='ScaleAttentionSegmentor', scales=[0.5, 1.0], frozen=False)])
def test_training_may_normalise_as_prediction_does(kind):
    torch.manual_seed(0)
    model = build_segmentor(**JOINT, norm_eval=True, **kind)
    images = normalised(model, (32, 32))
    for module in filter(lambda module: isinstance(module, nn.BatchNorm2d), model.modules()):
        module.running_mean.uniform_(-0.1, 0.1)
    before = {name: value.clone() for name, value in model.named_buffers()}
    predicted = model.eval()(images)['depth'].detach()
    learned = model.train()(images)['depth']
    torch.testing.assert_close(learned.detach(), predicted)
    learned.mean().backward()
    norms = [module for module in model.decode_head.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(norm.weight.grad.abs().sum() > 0 for norm in norms)
    torch.testing.assert_close(dict(model.named_buffers()), before, rtol=0, atol=0)


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
