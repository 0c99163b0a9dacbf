"""Arguments that classes refuse: an ArgumentError with one sentence, that names the argument and what was found."""

from functools import partial

import pytest
import torch

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.backbones import DilatedResNet
from mtl_plugins.models.test_time_augs import MultiTaskTTAModel
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import MODELS, TASK_UTILS
from tests.models.builders import BINS, MIT, NARROW, PLAIN, SEGFORMER, STD, build_dino, build_head, build_segmentor

SEMSEG = dict(type='SemSegTask', num_classes=5)
VIT = dict(type='TimmBackbone', name='vit_tiny_patch16_224', options=dict(depth=1))


depth = partial(dict, type='DepthTask')
timm = partial(dict, type='TimmBackbone')
neck = partial(dict, type='PlainViTPyramid')
deeplab = partial(dict, type='DeepLabV3PlusHead')
bins = partial(dict, BINS, out_channels=1)
class_tokens = partial(dict, type='ClassTokenSegHead')
distilled = partial(dict, type='DistilledHead', head=NARROW, out_channels=dict(semseg=19, depth=1))
gradients = partial(dict, type='AggregatedGradients')
DINO_HEAD = dict(type='DINOHead', out_channels=8)


def semseg(**loss):
    return dict(type='SemSegTask', loss=loss)


def mmseg_head(head=SEGFORMER, **options):
    return dict(backbone=MIT, decode_head={**head, **options})


def whole_of_mmseg(head=None, **task):
    head = dict(type='mmseg.FCNHead', in_channels=512, channels=8, num_classes=2, **(head or {}))
    whole = dict(type='EncoderDecoder', backbone=dict(type='mmseg.ResNetV1c', depth=18), decode_head=head)
    tasks = dict(semseg=dict(type='SemSegTask', num_classes=2, **task))
    return dict(type='MMSegSegmentor', segmentor=whole, tasks=tasks, pretrained=False)


def augmented(options):
    return MultiTaskTTAModel(model=build_segmentor(), **options)


def conditional(options, **attention):
    """A model that is asked for classes."""
    head = dict(type='ClassAttentionHead', channels=8, head=dict(type='ASPPHead', channels=8), **attention)
    task = dict(type='ClassMaskTask', num_classes=6)
    return dict(type='ClassConditionalSegmentor', decode_head=head, tasks=dict(semseg={**task, **options}))


def scales(*values, **options):
    return dict(type='ScaleAttentionSegmentor', scales=values or (1.0, 0.5), **options)


def balance(config):
    return TASK_UTILS.build({**config, 'tasks': ('semseg', 'depth', 'normals')})


def depth_head(type):
    return dict(decode_head=dict(type='BranchedHead', head=NARROW, task_heads=dict(depth=dict(type=type, head=NARROW))))


PARTS = [
    (dict(type='SILogLoss', lambda_=2), r'`lambda_` should be in \[0, 1\]. Found 2.'),
    (dict(type='SILogLoss', reduction='sum'), "`reduction` should be one of .* Found 'sum'."),
    (dict(type='UpsampledCrossEntropyLoss', class_weight=[1.0, -1.0]), '`class_weight` should be finite numbers'),
    (dict(type='DepthRegressionLoss', norm='l3'), "`norm` should be one of .* Found 'l3'."),
    (dict(type='DepthRegressionLoss', reduction='sum'), "`reduction` should be one of .* Found 'sum'."),
    (dict(type='SemSegTask', num_classes=1), '.*an object and its background are two classes. Found 1.'),
    (semseg(type='UpsampledCrossEntropyLoss', class_weight=[1.0, 2.0]), '`class_weight` should have 19 entries, .* Found 2.'),
    (semseg(type='torch.CrossEntropyLoss', weight=[1.0, 2.0]), '`class_weight` should have 19 entries, .* Found 2.'),
    (semseg(type='torch.NoLoss'), '`loss` should be a loss of this package, of mmseg or of torch.nn'),
    (semseg(type='mmseg.DiceLoss', x=1), 'The arguments of mmseg.DiceLoss should be what it takes'),
    (semseg(type='mmseg.BoundaryLoss'), '`loss` should compare logits with labels. Found .* map of edges'),
    (dict(type='SemSegTask', loss=[dict(type='mmseg.DiceLoss')] * 2), r'.* with different names; .* \[.dice., .dice.\]'),
    (dict(type='SemSegTask', sampler=dict(type='OHEMPixelSampler')), '`sampler` needs losses of mmseg'),
    (depth(loss=dict(type='torch.L1Loss', space='codes')), "`space` should be one of .* Found 'codes'"),
    (depth(representation='cubic'), '`representation` should be one of .* Found .cubic.'),
    (depth(representation='log'), '`statistics` of .log. should be dict'),
    (depth(statistics=dict(mean=0, std=1)), '`statistics` should be None'),
    (depth(depth_range=(0, 300)), '`depth_range` should be two ascending positive numbers'),
    (dict(type='DilatedResNet', output_stride=4), '`output_stride` should be 8, 16 or 32. Found 4.'),
    (dict(type='DilatedResNet', num_tasks=2), '`num_tasks` above 1 needs `squeeze_excitation`. Found 2.'),
    (dict(type='DilatedResNet', depth=20), '`depth` should be 18, 34, 50, 101 or 152. Found 20.'),
    (timm(name='resnet5O'), "`name` should be a model of timm. Found 'resnet5O'. The nearest names are resnet5"),
    (timm(name='resnet18', output_stride=4), '`output_stride` should be 8, 16, 32 or None. Found 4.'),
    (timm(name='densenet121', output_stride=16), '`output_stride` of densenet121 should be 32, .* Found 16.'),
    (timm(name='vit_tiny_patch16_224', output_stride=32), '`output_stride` of vit_tiny_patch16_224 should be 16'),
    (timm(name='convnext_atto', with_stem=True), '`with_stem` should be False for convnext_atto, which has no map at stride'),
    (timm(name='resnet18', options=dict(depht=3)), r"`options` should be arguments of resnet18. Found \{'depht': 3\}"),
    (timm(name='crossvit_tiny_240'), "`name` should be a model that offers feature maps. Found 'crossvit_tiny_240'"),
    (neck(in_channels=(None, 64, 128, 256, 512)), r'`in_channels` should have one width, .* Found \(None, 64,'),
    (neck(in_channels=(None, None, None, 32, None), finest_index=0), '`finest_index` should be 1, 2 or 3. Found 0.'),
    ({**DINO_HEAD, 'in_channels': 8, 'out_channels': 1}, '`out_channels` should be at least 2. Found 1.'),
    ({**DINO_HEAD, 'in_channels': 8, 'num_layers': 0}, '`num_layers` should be at least 1. Found 0.'),
    (dict(type='MultiTaskDataPreprocessor', mean=[0.0], std=STD), '`mean` and `std` should have three entries each'),
    (whole_of_mmseg(dict(out_channels=1, threshold=0.3)), '`out_channels` of `segmentor` should be left out: two classes'),
    (whole_of_mmseg(loss=dict(type='mmseg.DiceLoss')), r'`tasks\.semseg\.loss` should be left out: the losses are those of'),
    (whole_of_mmseg(sampler=dict(type='OHEMPixelSampler')), r'`tasks\.semseg\.sampler` should be left out'),
]
# Of heads, on the pyramid of `make_pyramid`.
HEADS = [
    (deeplab(skip_indices=(1, 2)), r'`skip_indices` should descend, from coarse to fine, as \(2, 1\). Found \(1, 2\).$'),
    (deeplab(skip_indices=()), r'`skip_indices` should descend, .* Found \(\).$'),
    (deeplab(skip_indices=(2, 1), skip_channels=(8,)), r'`skip_channels` should have one width for each of 2 .*\[8\].$'),
    (deeplab(decoder_channels=(8, 8)), r'`decoder_channels` should have one width for each of 1 skips. Found \[8, 8\].$'),
    (deeplab(num_convs=-1), '`num_convs` should be at least 0. Found -1.$'),
    (deeplab(squeeze_excitation=0), '`squeeze_excitation` should be at least 1 or None. Found 0.$'),
    (deeplab(aspp_squeeze_excitation=0), '`aspp_squeeze_excitation` should be at least 1 or None. Found 0.$'),
    (deeplab(aspp_squeeze_excitation=4, rates=None), r'`aspp_squeeze_excitation` needs an ASPP \(`rates`\). Found 4.$'),
    (deeplab(skip_indices=(5, 1)), 'Map 5 of the feature pyramid should exist, as the head reads it. Found a backbone .*$'),
    (
        deeplab(skip_indices=(1, 0), in_channels=(None, 8, 10, 12, 16)),
        'Map 0 of .* should exist, .* A backbone gives the map at stride 2 if `with_stem=True`.$',
    ),
    (dict(type='LinearHead', index=4, in_channels=(6, 8, 10, 12, None)), 'Map 4 of the feature pyramid should exist, '),
    (class_tokens(head={**NARROW, 'rates': None}, keys='aspp'), r"`keys='aspp'` needs a head with an ASPP \(`rates`\). Found "),
    (class_tokens(head=BINS), '`head` should be a map head .* Found AdaptiveDepthHead.$'),
    (
        dict(type='JointHead', head=dict(type='FixedBinsDepthHead', head=NARROW), out_channels=dict(semseg=19, depth=1)),
        '`out_channels` of FixedBinsDepthHead should be 1, the depth. Found 20. .* one of the `task_heads` of a BranchedHead.$',
    ),
    (bins(num_bins=200), 'The number of tokens or bins should be a square, .*: 196 or 225. Found 200.$'),
    (bins(num_bins=1), '`num_bins` should be at least 2. Found 1.$'),
    (bins(latents='encoder'), "`channel_reducer` should be .* where 16 channels become 8. Found 'none'.$"),
    (bins(channel_reducer='mlp'), "`channel_reducer` should be one of .* Found 'mlp'.$"),
    (bins(decoding='max'), "`decoding` should be one of .* Found 'max'.$"),
    (bins(latents='neck'), "`latents` should be one of .* Found 'neck'.$"),
    (bins(bin_order='sorted'), "`bin_order` should be one of .* Found 'sorted'.$"),
    (bins(spacing='inverse'), "`spacing` should be one of .* Found 'inverse'.$"),
    (bins(query_stride=4), '`query_stride` should be 1 or 2. Found 4.$'),
    (bins(depth_range=(0.0, 300.0)), r'`depth_range` should be two ascending positive numbers. Found \(0.0, 300.0\).$'),
    (bins(head=dict(type='JointHead', head=NARROW)), '`head` should be a map head with an embedding, .*$'),
    (bins(num_heads=3), '`num_heads` should divide the 8 channels. Found 3.$'),
    (bins(num_heads=0), '`num_heads` should divide the 8 channels. Found 0.$'),
    (bins(dropout=1.0), r'`dropout` should be in \[0, 1\). Found 1.0.$'),
    (bins(expansion=0), '`expansion` should be at least 1. Found 0.$'),
    (bins(channels=6, positional_embedding='sinusoidal'), 'Sinusoidal positions need a multiple of 4 channels. Found 6.$'),
    (bins(positional_embedding='rope'), "`positional_embedding` should be one of .* Found 'rope'.$"),
    (bins(position_added_to='input'), '`position_added_to` should come with a `positional_embedding`'),
    (bins(position_added_to='value'), "`position_added_to` should be one of .* Found 'value'.$"),
    (distilled(out_channels=dict(depth=1)), r"`out_channels` should name two tasks or more, .* Found \['depth'\].$"),
    (distilled(final_decoder='deeper'), r"`final_decoder` should be one of \['simple', 'deep'\]. Found 'deeper'.$"),
    (distilled(gate_kernel_size=2), '`gate_kernel_size` should be 1 or 3. Found 2.$'),
    (distilled(task_heads=dict(normals=NARROW)), r"`task_heads` should name tasks out of .* Found \['normals'\].$"),
    (
        distilled(task_heads=dict(depth={**NARROW, 'channels': 12})),
        r'The embeddings that tasks exchange should have one width. Found .*: 12\}.$',
    ),
    (
        distilled(task_heads=dict(depth=dict(type='FixedBinsDepthHead', head=NARROW))),
        '`head` should be a map head with an embedding, as DeepLabV3PlusHead. Found FixedBinsDepthHead.$',
    ),
]
DINO = [
    (dict(student_temperature=0.0), 'Temperatures should be positive'),
    (dict(centre_momentum=1.0), '`centre_momentum` should be in'),
    (dict(centring='ema'), "`centring` should be one of .* Found 'ema'"),
]
# Of whole models.
SEGMENTORS = [
    (dict(tasks={}), '`tasks` is empty'),
    (
        dict(tasks={name: dict(type='SemSegTask', label='semseg') for name in 'ab'}),
        r"`tasks` should learn different labels. Found \{'a': 'semseg', 'b': 'semseg'\}",
    ),
    (
        dict(task_balancing=dict(type='FixedWeights', weights=dict(semseg=1.0, normals=1.0))),
        r"`weights` should have one entry >= 0 for each task of \['semseg', 'depth'\]. Found .*normals",
    ),
    (
        dict(decode_head=dict(type='JointHead', head=NARROW, out_channels=dict(semseg=5, depth=1))),
        r"`decode_head.out_channels` should be \{'semseg': 19, 'depth': 1\}",
    ),
    (depth_head('AdaptiveDepthHead'), "`representation` of DepthTask should be 'metres', .*AdaptiveDepthHead pred.* Found 'exp'"),
    (depth_head('FixedBinsDepthHead'), "`representation` of DepthTask should be 'metres', .*FixedBinsDepthHead pred"),
    (dict(backbone=dict(type='DilatedResNet', squeeze_excitation=4, num_tasks=2)), '`backbone.num_tasks` should be 1, as Joint'),
    (dict(backbone=VIT), 'Map -1 of the feature pyramid should exist'),
    (
        dict(backbone=dict(type='mmseg.DDRNet', channels=8)),
        'A backbone should give the same maps in training and in prediction. Found DDRNet',
    ),
    (dict(backbone={**PLAIN, 'output_cls_token': True}), r'A backbone should give feature maps \(B, C, H, W\). Found list'),
    (mmseg_head(dict(type='mmseg.OCRHead', channels=16, ocr_channels=8)), '.* needs the prediction of another head'),
    (mmseg_head(dict(type='mmseg.EncHead', channels=16)), '.* Found mmseg.EncHead, which gives something else'),
    (mmseg_head(dict(type='mmseg.Mask2FormerHead', num_classes=19)), 'A head should take `in_channels` and `out_channels`'),
    (mmseg_head(num_classes=19), '`num_classes` of mmseg.SegformerHead should be 20, by the tasks. Found 19.'),
    (mmseg_head(in_index=[0, 4]), r'The arguments of mmseg.SegformerHead should be .* \(IndexError'),
    (mmseg_head(in_channels=[8, 16, 16, 33]), '.* which does not run on the pyramid'),
    (mmseg_head(loss_decode=dict(type='DiceLoss')), '`loss_decode` of mmseg.SegformerHead should be left out'),
    (mmseg_head(chanels=3), 'The arguments of mmseg.SegformerHead should be what it takes'),
    (
        dict(auxiliary_head=dict(type='LinearHead', tasks='edges')),
        r"`tasks` of an auxiliary head should be among \['semseg', 'depth'\]. Found \['edges'\].",
    ),
    (scales(1.0), r'`scales` should be two or more different positive numbers. Found \(1.0,\).'),
    (scales(task_balancing=dict(type='AggregatedGradients', aggregator='MGDA')), '.*`task_balancing` of losses. Found Aggreg.*'),
    (scales(auxiliary_head=dict(type='LinearHead')), ".*Found FixedWeights and {'auxiliary_heads': 1, 'num_tasks': 1}."),
    (conditional({}, attention='luong'), '`attention` should be one of'),
    (conditional(dict(threshold=1.0)), '`threshold` should be in'),
    (conditional(dict(absent_prob=1.5)), '`absent_prob` should be in'),
    (conditional(dict(num_classes=1)), r'`num_classes` should be in 2\.\.255'),
    (conditional(dict(loss=dict(type='UpsampledMaskLoss', dice_weight=-1.0))), '`dice_weight` should not be negative'),
    ({**conditional({}), 'tasks': dict(semseg=SEMSEG)}, '`tasks` should hold one ClassMaskTask. Found SemSeg'),
    ({**conditional({}), 'auxiliary_head': dict(type='LinearHead')}, '`auxiliary_head` should be None for a model that is asked'),
]
# Of test-time augmentation.
AUGMENTED = [
    (dict(scales=(float('nan'),)), '`scales` should be .* Found'),
    (dict(scales=1.0), '`scales` should be a list of one or more positive numbers. Found 1.0.'),
    (dict(scales=['big']), '`scales` should be .* Found'),
    (dict(scales=dict(semseg=(1.0,))), r"`scales` should have a list for each of the model's tasks, .*'depth'\]. Found {.*}."),
    (dict(scales=dict(semseg=(1.0,), depth=(-1,))), '`scales` should be .* Found'),
    (dict(merge=dict(normals='mean')), r"`merge` should name the model's tasks, \['semseg', 'depth'\]. Found 'normals'."),
]
# Of task balancing.
BALANCING = [
    (dict(type='UncertaintyWeights', classification=['edges']), "`classification` should name tasks .* Found .*'edges'"),
    (dict(type='DynamicWeightAverage', interval=0), '`temperature` and `interval` should be positive. Found 2.0 and 0'),
    (dict(type='DynamicTaskPriority', momentum=0), '`gamma` should be 0 or more and `momentum` in'),
    (dict(type='ScheduledWeights', schedule=[]), '`schedule` should have entries'),
    (
        dict(type='ScheduledWeights', schedule=[dict(iteration=0, weights=dict(semseg=1.0))]),
        '`weights` should have one entry',
    ),
    (gradients(aggregator='PCGradient'), "`aggregator` should be one of .*PCGrad.* Found 'PCGradient'"),
    (gradients(aggregator='CAGrad'), '`arguments` should be those of CAGrad of TorchJD, for 3 tasks. Found {}'),
    (gradients(aggregator='UPGrad', arguments=dict(pref_vector=dict(semseg=1.0))), '`arguments` should be those of UPGrad'),
    (gradients(aggregator='UPGrad', place='heads'), "`place` should be one of .* Found 'heads'"),
    (gradients(aggregator='ExcessMTL', place='features'), "`place` of ExcessMTL should be 'parameters'"),
]
CALLS = [
    (lambda: build_segmentor()(torch.zeros(1, 3, 32, 32), mode='train'), "`mode` should be 'loss', 'predict' or 'tensor'."),
    (lambda: augmented({})(torch.zeros(1, 3, 16, 16), mode='loss'), r"`mode` should be 'predict' with .* Found 'loss'"),
    (lambda: build_dino()([torch.zeros(2, 3, 32, 32)], mode='loss'), '`student_VBK` should hold at least two views'),
    (lambda: build_dino().data_preprocessor(dict(inputs=[torch.zeros(2, 3, 8, 8)])), '`inputs` should have the'),
    (
        lambda: build_segmentor().data_preprocessor(dict(inputs=torch.zeros(2, 3, 4, 4))),
        r'`inputs` should have the shape \(B, H, W, 3\). Found \(2, 3, 4, 4\)',
    ),
    (
        lambda: MODELS.build(semseg(type='torch.MultiMarginLoss')).loss(torch.zeros(1, 19, 4, 4), torch.zeros(1, 8, 8)),
        r'`loss` should compare logits \(B, C, H, W\) with labels \(B, H, W\). Found torch.MultiMarginLoss \(Expected',
    ),
    (
        lambda: MODELS.build(depth(loss=dict(type='torch.CrossEntropyLoss'))).loss(torch.ones(2, 1, 8, 8), torch.ones(2, 8, 8)),
        '`loss` of depth should give a value per pixel or per image',
    ),
    (lambda: prepare_for_inference(torch.nn.Identity(), dtype=torch.float64), '`dtype` should be torch.float32'),
    (lambda: DilatedResNet(init_cfg=dict(type='Kaiming')).init_weights(), '`init_cfg` of a backbone should be dict'),
]
REFUSED = [
    *((augmented, *case) for case in AUGMENTED),
    *((MODELS.build, *case) for case in PARTS),
    *((balance, *case) for case in BALANCING),
    *((lambda call: call(), *case) for case in CALLS),
    *((lambda config: build_head(**{'out_channels': 2, **config}), *case) for case in HEADS),
    *((lambda changes: build_dino(**changes), *case) for case in DINO),
    *((lambda changes: build_segmentor(**changes), *case) for case in SEGMENTORS),
]


@pytest.mark.parametrize(('build', 'config', 'message'), REFUSED)
def test_models_refuse(build, config, message):
    with pytest.raises(ArgumentError, match=f'^{message}'):
        build(config)
