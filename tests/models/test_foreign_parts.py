"""Backbones, necks, heads and losses of mmseg and torch in the model."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from torch import nn

from mtl_plugins.models.backbones.foreign_backbone import PyramidOrder, find_pyramid
from mtl_plugins.models.decode_heads import MMSegHead
from mtl_plugins.models.tasks import DepthTask, SemSegTask
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import MODELS
from tests.models.builders import MIT, PLAIN, SEGFORMER, TASKS, WIDTHS, build_segmentor, make_batch, make_pyramid

# mmsegmentation 1.2 needs the compiled mmcv for them.
pytest.importorskip('mmseg.models', exc_type=ModuleNotFoundError)
from mmseg.models.losses import CrossEntropyLoss, LovaszLoss

R18_D8 = dict(type='mmseg.ResNetV1c', depth=18, base_channels=8, stem_channels=8, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))


@pytest.mark.parametrize(
    ('strides', 'levels'),
    [
        ((4, 8, 16, 32), [1, 2, 3, 4]),
        ((4, 8, 8, 8), [1, 2, 3, 4]),  # dilated
        ((16, 16, 16, 16), [1, 2, 3, 4]),  # plain transformer
        ((2, 4, 8), [0, 1, 4]),  # the coarsest has the last place
        ((16, 8, 4, 2, 1), [4, 3, 2, 1, 0]),  # from coarse to fine
        ((8, 32, 8), [2, 4, 3]),
        ((16,), [3]),
    ],
)
def test_places_in_the_pyramid(strides, levels):
    order = PyramidOrder([10 + i for i in range(len(strides))], strides)
    assert order.levels == levels
    maps = [torch.full((1, 10 + i, 1, 1), float(i)) for i in range(len(strides))]
    placed = order(maps)
    assert [placed[level] is maps[i] for i, level in enumerate(levels)] == [True] * len(levels)
    assert [None if feature is None else feature.shape[1] for feature in placed] == list(order.out_channels)


@pytest.mark.parametrize('config', [MIT, R18_D8, PLAIN], ids=lambda config: config['type'])
@torch.no_grad()
def test_widths_and_strides_found_without_data_are_those_of_an_image(config):
    torch.manual_seed(0)
    backbone = MODELS.build(config)
    backbone.eval()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    order = find_pyramid(backbone)
    maps = backbone(torch.randn(1, 3, 64, 128))
    assert order.strides == tuple(64 / feature.shape[2] for feature in maps)
    assert [None if feature is None else feature.shape[1] for feature in order(maps)] == list(order.out_channels)
    assert not backbone.training
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


class OnlyReal(nn.Module):
    """Reads a value, which the meta device cannot give; maps by name."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 4, stride=4)

    def forward(self, inputs):
        features = self.conv(inputs) * (1 + inputs.sum().item())
        return dict(fine=features, coarse=F.max_pool2d(features, 2))


def test_a_network_that_needs_real_numbers_is_tried_on_a_black_image():
    assert find_pyramid(OnlyReal()).out_channels == (None, 7, None, None, 7)


BINS = dict(type='FixedBinsDepthHead', head=SEGFORMER, num_bins=8, channels=16)


@pytest.mark.parametrize(
    'changes',
    [
        dict(backbone=R18_D8),
        dict(backbone=PLAIN, neck=dict(type='mmseg.MultiLevelNeck', out_channels=16, scales=[4, 2, 1, 0.5])),
        dict(neck=dict(type='mmseg.FPN', out_channels=16)),
        dict(backbone=MIT, decode_head=SEGFORMER),
        dict(backbone=MIT, decode_head=dict(type='JointHead', head=SEGFORMER)),
        dict(backbone=MIT, decode_head=dict(type='DistilledHead', head=SEGFORMER)),
        dict(
            backbone=MIT,
            decode_head=dict(type='BranchedHead', head=SEGFORMER, task_heads=dict(depth=BINS)),
            tasks={**TASKS, 'depth': dict(type='DepthTask', representation='metres')},
        ),
    ],
    ids=['dilated', 'plain', 'fpn', 'mit-plain', 'mit-joint', 'mit-distilled', 'mit-bins'],
)
def test_every_parameter_learns_and_the_copy_for_inference_predicts_the_same(changes):
    torch.manual_seed(0)
    model = build_segmentor(**changes)
    total, _ = model.parse_losses(model(**model.data_preprocessor(make_batch((64, 64))), mode='loss'))
    total.backward()
    # A neck gives maps that this head does not read.
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not unused or ('neck' in changes and all(name.startswith(('neck.', 'backbone.')) for name in unused))
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = model.eval().predict_arrays(inputs), prepare_for_inference(model).predict_arrays(inputs)
    torch.testing.assert_close(found['depth'], expected['depth'], rtol=1e-3, atol=0)


HEADS = [
    SEGFORMER,
    dict(type='mmseg.UPerHead', channels=16),
    dict(type='mmseg.ASPPHead', channels=16, in_index=2),
    dict(type='mmseg.DepthwiseSeparableASPPHead', channels=16, c1_channels=8),
    dict(type='mmseg.FCNHead', channels=16, input_transform='resize_concat', in_index=(0, 1)),
]


@pytest.mark.parametrize('config', HEADS, ids=lambda config: config['type'])
@torch.no_grad()
def test_a_head_of_mmseg_gives_what_it_gives_there(config):
    torch.manual_seed(0)
    head = MMSegHead(head=config, in_channels=WIDTHS, out_channels=5).eval()
    present = (0, 1, 2, 3, 4)
    indices = config.get('in_index', {'ASPPHead': -1, 'DepthwiseSeparableASPPHead': -1}.get(config['type'][6:], present))
    widths = [WIDTHS[i] for i in indices] if isinstance(indices, tuple) else WIDTHS[indices]
    extra = dict(c1_in_channels=WIDTHS[0]) if 'Separable' in config['type'] else {}
    reference = MODELS.build(
        {**config, 'in_index': indices, 'in_channels': widths, 'num_classes': 5, **extra, '_scope_': 'mmseg'}
    )
    reference.load_state_dict(head.head.state_dict())
    features = make_pyramid((96, 128))
    expected = reference.eval()(list(features))
    torch.testing.assert_close(head(features), expected, rtol=0, atol=0)
    context, embedding = head.embed(features)
    assert embedding.shape[1] == head.channels == context.shape[1]
    classifier = reference.conv_seg
    torch.testing.assert_close(F.conv2d(embedding, classifier.weight, classifier.bias), expected, rtol=0, atol=0)


def test_maps_that_there_are_are_counted():
    head = MMSegHead(head=dict(type='mmseg.FCNHead', channels=4, in_index=0), in_channels=(None, 8, 10, 12, 16), out_channels=3)
    assert head.head.in_channels == 8 and head.head.num_classes == 3
    assert MMSegHead(head=SEGFORMER, in_channels=(None, 8, 10, None, 16), out_channels=3).head.in_channels == [8, 10, 16]


def test_a_part_that_views_its_input_keeps_the_model_from_channels_last():
    head = dict(type='mmseg.DMHead', channels=16)
    model = build_segmentor(backbone=R18_D8, decode_head=head)
    assert model.memory_format == torch.contiguous_format
    model.parse_losses(model(**model.data_preprocessor(make_batch((64, 64))), mode='loss'))[0].backward()
    assert build_segmentor(backbone=R18_D8).memory_format == torch.channels_last


def test_auxiliary_heads_are_charged_in_training_only():
    auxiliary = [
        dict(type='mmseg.FCNHead', channels=8, in_index=1, num_convs=1, tasks='semseg', loss_weight=0.25, dropout_ratio=0),
        dict(type='LinearHead', channels=8, index=3),
    ]
    torch.manual_seed(0)
    model = build_segmentor(auxiliary_head=auxiliary)
    batch = model.data_preprocessor(make_batch((64, 64)))
    losses = model(**batch, mode='loss')
    assert list(losses) == [
        'semseg/loss_ce', 'depth/loss_silog', 'semseg/loss_aux0_ce', 'semseg/loss_aux1_ce', 'depth/loss_aux1_silog',
    ]  # fmt: skip
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()) / 2)
    model.eval()  # statistics of BatchNorm apart, the expectation is the library's value on the head's own output
    features = model.encode(batch['inputs'])
    logits = model.auxiliary_heads[0].head(features)
    entropy = F.cross_entropy(
        F.interpolate(logits, size=(64, 64), mode='bilinear'), batch['targets']['semseg'].long(), ignore_index=255
    )
    torch.testing.assert_close(model(**batch, mode='loss')['semseg/loss_aux0_ce'], 0.25 * entropy)
    plain = build_segmentor()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith('auxiliary')})
    with torch.no_grad():
        expected, found = plain.eval().predict_arrays(batch['inputs']), model.predict_arrays(batch['inputs'])
    assert torch.equal(found['depth'], expected['depth'])
    assert not any(name.startswith('auxiliary') for name, _ in prepare_for_inference(model).named_parameters())


def make_logits(classes=4):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 4, 6, generator=generator, requires_grad=True)
    labels = torch.randint(0, classes, (2, 16, 24), generator=generator, dtype=torch.uint8)
    labels[0, :4] = 255
    return logits, labels


def upsampled(logits):
    return F.interpolate(logits, size=(16, 24), mode='bilinear', align_corners=False)


def dice(logits, labels):
    """mmseg's: 1 - 2 sum(p y) / (sum(p^2) + sum(y^2)) per image, over its valid pixels."""
    losses = []
    for image, label in zip(upsampled(logits), labels.long(), strict=True):
        valid = label != 255
        p, y = image.softmax(0)[:, valid], F.one_hot(label[valid], logits.shape[1]).t()
        losses.append(1 - 2 * (p * y).sum() / (p.square().sum() + 1e-3 + y.sum() + 1e-3))
    return sum(losses) / 2


def focal(logits, labels):
    """mmseg's, on one-hot labels: the mean over the valid pixels and classes of each image."""
    losses = []
    for image, label in zip(upsampled(logits), labels.long(), strict=True):
        valid = label != 255
        p, y = image.sigmoid()[:, valid], F.one_hot(label[valid], logits.shape[1]).t()
        pt = torch.where(y == 1, p, 1 - p)
        losses.append((-0.5 * (1 - pt).square() * pt.log()).mean())
    return sum(losses) / len(losses)


LOSSES = {
    'ce': (
        dict(type='mmseg.CrossEntropyLoss', loss_weight=2.0),
        lambda logits, labels: 2 * F.cross_entropy(upsampled(logits), labels.long(), ignore_index=255),
    ),
    'weighted': (
        dict(type='mmseg.CrossEntropyLoss', class_weight=[0.5, 1.0, 2.0, 1.0], loss_name='loss_weighted'),
        lambda logits, labels: F.cross_entropy(
            upsampled(logits), labels.long(), torch.tensor([0.5, 1.0, 2.0, 1.0]), ignore_index=255
        ),
    ),
    'dice': (dict(type='mmseg.DiceLoss', use_sigmoid=False), dice),
    'focal': (dict(type='mmseg.FocalLoss'), focal),
    'lovasz': (
        dict(type='mmseg.LovaszLoss', reduction='none'),
        lambda logits, labels: LovaszLoss(reduction='none')(upsampled(logits), labels.long(), ignore_index=255),
    ),
    'cross_entropy': (
        dict(type='torch.CrossEntropyLoss', label_smoothing=0.1, loss_weight=0.5),
        lambda logits, labels: 0.5 * F.cross_entropy(upsampled(logits), labels.long(), ignore_index=255, label_smoothing=0.1),
    ),
}


@pytest.mark.parametrize('name', LOSSES)
def test_a_loss_has_the_library_s_value_and_nothing_without_labels(name):
    config, reference = LOSSES[name]
    task = SemSegTask(num_classes=4, loss=config)
    logits, labels = make_logits()
    (key,) = task.losses([logits], labels)
    assert key == f'loss_{name}'
    torch.testing.assert_close(task.loss(logits, labels), reference(logits, labels))
    changed = logits.detach().clone()
    changed[0, :, 0] += 3
    few = labels.clone()
    few[0] = 255  # the whole first image
    torch.testing.assert_close(task.loss(changed, few), task.loss(logits, few))
    nothing = task.loss(logits, torch.full_like(labels, 255))
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert nothing == 0 and not gradient.any()


def test_losses_are_added_and_logged_one_by_one():
    names = ('ce', 'dice', 'cross_entropy')
    task = SemSegTask(num_classes=4, loss=[dict(type='UpsampledCrossEntropyLoss'), *(LOSSES[name][0] for name in names[1:])])
    logits, labels = make_logits()
    losses = task.losses([logits, logits * 0.5], labels)
    assert [f'loss_{name}' for name in names] == [key for key in losses if key.startswith('loss_')]
    expected = (dice(logits, labels) + dice(logits * 0.5, labels)) / 2
    torch.testing.assert_close(losses['loss_dice'], expected)
    torch.testing.assert_close(task.loss(logits, labels), sum(task.losses([logits], labels).values()))
    assert list(task.losses([logits], None)) == [f'loss_{name}' for name in names]


def test_a_sampler_chooses_the_pixels():
    sampler = dict(type='OHEMPixelSampler', thresh=0.6, min_kept=5)
    task = SemSegTask(num_classes=4, loss=dict(type='mmseg.CrossEntropyLoss'), sampler=sampler)
    logits, labels = make_logits()
    fine, target = upsampled(logits), labels.long()
    probability = fine.softmax(1).gather(1, target.where(target != 255, 0)[:, None])[:, 0]
    hard = (target != 255) & (probability < 0.6)
    entropy = F.cross_entropy(fine, target, ignore_index=255, reduction='none')
    torch.testing.assert_close(task.loss(logits, labels), (entropy * hard).sum() / (target != 255).sum())
    assert CrossEntropyLoss in {type(module) for module in task.modules()}


@pytest.mark.parametrize('name', ['L1Loss', 'SmoothL1Loss', 'MSELoss'])
def test_depth_losses_of_torch_average_over_valid_pixels(name):
    task = DepthTask(representation='log', statistics=dict(mean=2.9, std=0.8), loss=dict(type=f'torch.{name}', loss_weight=3.0))
    torch.manual_seed(0)
    output, metres = torch.randn(2, 1, 8, 8, requires_grad=True), torch.rand(2, 8, 8) * 50 + 4
    metres[0, :5] = 0
    valid = metres > 0
    expected = 3 * getattr(nn, name)()(output[:, 0][valid], (metres[valid].log() - 2.9) / 0.8)
    torch.testing.assert_close(task.loss(output, metres), expected)
    nothing = task.loss(output, metres * 0)
    assert nothing == 0 and not torch.autograd.grad(nothing, output)[0].any()


def test_mmseg_s_depth_loss_passes_over_images_without_depth():
    """Alone it has no gradient there: the square root of 0."""
    task = DepthTask(loss=dict(type='mmseg.SiLogLoss'))
    torch.manual_seed(0)
    output, metres = torch.rand(2, 1, 8, 8, requires_grad=True), torch.rand(2, 8, 8) * 50 + 4
    metres[0] = 0
    loss = task.loss(output, metres)
    error = metres[1].log() - output[1, 0]
    torch.testing.assert_close(loss, (error.square().mean() - 0.5 * error.mean() ** 2).sqrt())
    assert torch.autograd.grad(loss, output)[0].isfinite().all()


def test_layer_decay_of_mmseg_reaches_the_backbone():
    model = build_segmentor(
        backbone=dict(type='mmseg.BEiT', img_size=64, embed_dims=16, num_layers=2, num_heads=2, out_indices=(0, 1)),
        decode_head=dict(type='mmseg.FCNHead', channels=8),
    )
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='mmseg.LearningRateDecayOptimizerConstructor',
            paramwise_cfg=dict(num_layers=2, decay_rate=0.5, decay_type='layer_wise'),
            optimizer=dict(type='AdamW', lr=1.0),
        ),
    )
    rates = {id(parameter): group['lr'] for group in wrapper.param_groups for parameter in group['params']}
    parameters = dict(model.named_parameters())
    # Embedding, two layers, head: half the rate for each step away from the head.
    assert rates[id(parameters['backbone.patch_embed.projection.weight'])] == 0.125
    assert rates[id(parameters['backbone.layers.0.ln1.weight'])] == 0.25
    assert rates[id(parameters['backbone.layers.1.ln1.weight'])] == 0.5
    assert rates[id(parameters['decode_head.head.head.conv_seg.weight'])] == 1.0
