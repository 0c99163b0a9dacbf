"""Arguments that classes refuse: an ArgumentError with one sentence, that names the argument and what was found."""

import pytest
import torch

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.backbones import DilatedResNet
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import MODELS, TASK_UTILS
from tests.models.builders import MEAN, STD, build_segmentor
from tests.tiny import TinyBackbone

DINO_HEAD = dict(type='DINOHead', in_channels=8)


def semseg(**loss):
    return dict(type='SemSegTask', loss=loss)


def depth(**options):
    return dict(type='DepthTask', **options)


def timm(name, **options):
    return dict(type='TimmBackbone', name=name, **options)


def neck(in_channels, **options):
    return dict(type='PlainViTPyramid', in_channels=in_channels, **options)


def dino(**options):
    preprocessor = dict(type='MultiViewDataPreprocessor', mean=MEAN, std=STD)
    head = dict(type='DINOHead', out_channels=8)
    return dict(type='DINO', backbone=dict(type=TinyBackbone), projection_head=head, data_preprocessor=preprocessor, **options)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='SILogLoss', lambda_=2), r'`lambda_` should be in \[0, 1\]. Found 2.'),
        (dict(type='SILogLoss', reduction='sum'), "`reduction` should be one of .* Found 'sum'."),
        (
            dict(type='UpsampledCrossEntropyLoss', class_weight=[1.0, -1.0]),
            '`class_weight` should be finite numbers',
        ),
        (dict(type='DepthRegressionLoss', norm='l3'), "`norm` should be one of .* Found 'l3'."),
        (dict(type='DepthRegressionLoss', reduction='sum'), "`reduction` should be one of .* Found 'sum'."),
        (dict(type='BalancedBoundaryLoss', positive_weight=1.0), '`positive_weight` should be in'),
        (dict(type='SemSegTask', num_classes=1), '.*an object and its background are two classes. Found 1.'),
        (semseg(type='UpsampledCrossEntropyLoss', class_weight=[1.0, 2.0]), '`class_weight` should have 19 entries, .* Found 2.'),
        (semseg(type='torch.CrossEntropyLoss', weight=[1.0, 2.0]), '`class_weight` should have 19 entries, .* Found 2.'),
        (semseg(type='torch.NoLoss'), '`loss` should be a loss of this package, of mmseg or of torch.nn'),
        (semseg(type='mmseg.DiceLoss', x=1), 'The arguments of mmseg.DiceLoss should be what it takes'),
        (semseg(type='mmseg.DiceLoss', call='rows'), "`call` should be one of .* Found 'rows'"),
        (semseg(type='mmseg.BoundaryLoss'), '`loss` should compare logits with labels. Found .* map of edges'),
        (
            dict(type='SemSegTask', loss=[dict(type='mmseg.DiceLoss')] * 2),
            r'.* with different names; .* \[.dice., .dice.\]',
        ),
        (dict(type='SemSegTask', sampler=dict(type='OHEMPixelSampler')), '`sampler` needs losses of mmseg'),
        (depth(loss=dict(type='torch.L1Loss', space='codes')), "`space` should be one of .* Found 'codes'"),
        (depth(representation='cubic'), '`representation` should be one of .* Found .cubic.'),
        (depth(representation='log'), '`statistics` of .log. should be dict'),
        (depth(statistics=dict(mean=0, std=1)), '`statistics` should be None'),
        (depth(depth_range=(0, 300)), '`depth_range` should be two ascending positive numbers'),
        (dict(type='DilatedResNet', output_stride=4), '`output_stride` should be 8, 16 or 32. Found 4.'),
        (dict(type='DilatedResNet', depth=20), '`depth` should be 18, 34, 50, 101 or 152. Found 20.'),
        (timm('resnet5O'), "`name` should be a model of timm. Found 'resnet5O'. The nearest names are resnet5"),
        (timm('resnet18', output_stride=4), '`output_stride` should be 8, 16, 32 or None. Found 4.'),
        (timm('densenet121', output_stride=16), '`output_stride` of densenet121 should be 32, .* Found 16.'),
        (timm('vit_tiny_patch16_224', output_stride=32), '`output_stride` of vit_tiny_patch16_224 should be 16'),
        (timm('convnext_atto', with_stem=True), '`with_stem` should be False for convnext_atto, which has no map at stride'),
        (timm('resnet18', options=dict(depht=3)), r"`options` should be arguments of resnet18. Found \{'depht': 3\}"),
        (timm('crossvit_tiny_240'), "`name` should be a model that offers feature maps. Found 'crossvit_tiny_240'"),
        (neck((None, 64, 128, 256, 512)), r'`in_channels` should have one width, .* Found \(None, 64,'),
        (neck((None, None, None, 32, None), finest_index=0), '`finest_index` should be 1, 2 or 3. Found 0.'),
        (dino(student_temperature=0.0), 'Temperatures should be positive'),
        (dino(centre_momentum=1.0), '`centre_momentum` should be in'),
        (dino(centring='ema'), "`centring` should be one of .* Found 'ema'"),
        ({**DINO_HEAD, 'out_channels': 1}, '`out_channels` should be at least 2. Found 1.'),
        ({**DINO_HEAD, 'num_layers': 0}, '`num_layers` should be at least 1. Found 0.'),
    ],
)
def test_models_refuse(config, message):
    with pytest.raises(ArgumentError, match=f'^{message}'):
        MODELS.build(config)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            dict(type='UncertaintyWeights', classification=['edges']),
            "`classification` should name tasks .* Found .*'edges'",
        ),
        (dict(type='DynamicWeightAverage', interval=0), '`temperature` and `interval` should be positive. Found 2.0 and 0'),
        (dict(type='DynamicTaskPriority', momentum=0), '`gamma` should be 0 or more and `momentum` in'),
        (dict(type='ScheduledWeights', schedule=[]), '`schedule` should have entries'),
        (
            dict(type='ScheduledWeights', schedule=[dict(iteration=0, weights=dict(semseg=1.0))]),
            '`weights` should have one entry',
        ),
    ],
)
def test_task_balancing_refuses(config, message):
    with pytest.raises(ArgumentError, match=f'^{message}'):
        TASK_UTILS.build({**config, 'tasks': ('semseg', 'depth', 'normals')})


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: build_segmentor()(torch.zeros(1, 3, 32, 32), mode='train'), "`mode` should be 'loss', 'predict' or 'tensor'."),
        (lambda: MODELS.build(dino())([torch.zeros(2, 3, 32, 32)], mode='loss'), '`student_VBK` should hold at least two views'),
        (lambda: MODELS.build(dino()).data_preprocessor(dict(inputs=[torch.zeros(2, 3, 8, 8)])), 'A view in `inputs` should'),
        (lambda: prepare_for_inference(torch.nn.Identity(), dtype=torch.float64), '`dtype` should be torch.float32'),
        (lambda: DilatedResNet(init_cfg=dict(type='Kaiming')).init_weights(), '`init_cfg` of a backbone should have the type'),
    ],
)
def test_calls_are_refused(call, message):
    with pytest.raises(ArgumentError, match=f'^{message}'):
        call()
