"""Parameter counts that the course's reports print, to be met exactly by the configs."""

import itertools

import pytest
import torch

from mtl_plugins.config.load import load_config
from mtl_plugins.models.backbones import DilatedResNet
from mtl_plugins.models.decode_heads.deeplabv3plus_head import ASPP
from mtl_plugins.registry import MODELS
from tests.tiny import CONFIGS


def count(*modules) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def build(system: str, start: str = 'r18-d16_1xb16-32e', **options):
    """The model of a config; ``options`` are of the map head."""
    path = CONFIGS / system.split('-')[0] / f'{system}_{start}_miniscapes-256x256.py'
    overrides = {f'model.decode_head.head.{name}': value for name, value in options.items()}
    with torch.device('meta'):
        return MODELS.build(load_config(str(path), overrides).model)


# Random and ImageNet weights.
STARTS = pytest.mark.parametrize('start', ['r18-d16_1xb16-32e', 'r18-d16_1xb16-32e_pretrained'])


@pytest.mark.parametrize('output_stride', [32, 16, 8])
def test_resnet18_encoder(output_stride):
    assert count(DilatedResNet(depth=18, output_stride=output_stride)) == 11_176_512


def test_aspp():
    assert count(ASPP(512, 256)) == 4_131_584


@STARTS
def test_joint(start):
    model = build('joint', start)
    head = model.decode_head.head
    assert count(model.backbone) == 11_176_512
    assert count(head.aspp) == 4_131_584
    assert count(head.decoder, head.predictor) == 1_300_036
    assert count(model) == 16_608_132


@STARTS
def test_branched(start):
    model = build('branched', start)
    semseg, depth = model.decode_head.heads['semseg'], model.decode_head.heads['depth']
    assert count(semseg.aspp) == count(depth.aspp) == 4_131_584
    assert count(semseg.decoder, semseg.predictor) == 1_299_779
    assert count(depth.decoder, depth.predictor) == 1_295_153
    assert count(model) == 22_034_612


@pytest.mark.parametrize('start', [*STARTS.args[1], 'r18-d16_1xb16-32e_course2025-pretrained'])
def test_adaptive_depth(start):
    model = build('adaptive_depth', start)
    head = model.decode_head.head
    assert count(head.head) == 2_579_008
    assert count(head.tokens) == 2_369_280
    assert count(head.query_conv) == 590_080
    assert count(head.bin_projection) == 257
    assert count(model) == 11_176_512 + 2_579_008 + 2_369_280 + 590_080 + 257 == 16_715_137


def test_adaptive_depth_of_2025_in_its_other_forms():
    """The report prints one count; those of its other forms follow from the listing's layers."""
    encoder, decoder, queries, projection = 11_176_512, 2_579_008, 590_080, 257
    blocks = {width: 4 * (width**2 + width) + 4 * width + 8 * width**2 + 5 * width for width in (256, 512)}
    assert 3 * blocks[256] == 2_369_280
    reducer = 512 * 256 + 256
    totals = {
        'encoder-latents': encoder + decoder + reducer + 3 * blocks[256] + queries + projection,
        # The bins' depths are projected from 512 channels, the latents to 256.
        'width512': encoder + decoder + 3 * blocks[512] + queries + 513 + reducer,
        # Decoder and ASPP both start from the encoder.
        'aspp-latents': encoder + decoder + 4_131_584 + 6 * blocks[256] + queries + projection,
    }
    for form, total in totals.items():
        model = build('adaptive_depth', f'r18-d16_1xb16-32e_course2025-{form}-pretrained')
        head = model.decode_head.head
        assert (count(head.head), count(head.query_conv)) == (decoder, queries)
        assert count(model) == total
    assert totals == {'encoder-latents': 16_846_465, 'width512': 23_934_593, 'aspp-latents': 23_216_001}


def test_the_settings_that_the_report_of_2025_varies():
    """Skip and convolutions of figure 3; heads, expansion, layers and embedding of figure 9."""
    encoder, aspp = 11_176_512, 4_131_584
    for skip, convs in itertools.product((16, 32, 48, 64), (1, 2, 3)):
        model = build('deeplabv3plus-semseg', 'r18-d16_1xb16-32e_pretrained', skip_channels=skip, num_convs=convs)
        first, others, predictor = 9 * (256 + skip) * 256 + 3 * 256, 9 * 256 * 256 + 3 * 256, 256 * 19 + 19
        decoder = 64 * skip + skip + first + (convs - 1) * others + predictor
        assert count(model) == encoder + aspp + decoder
        assert (skip, convs) != (48, 2) or decoder == 1_299_779
    for heads, expansion, layers, embedding in ((4, 4, 3, 'none'), (4, 8, 3, 'none'), (8, 8, 3, 'none'), (8, 4, 6, 'learned')):
        form = dict(num_heads=heads, expansion=expansion, num_layers=layers, positional_embedding=embedding)
        model = build('adaptive_depth', 'r18-d16_1xb16-32e_course2025-encoder-latents-pretrained', **form)
        block = 4 * (256**2 + 256) + 4 * 256 + 2 * expansion * 256**2 + expansion * 256 + 256
        rest = encoder + 2_579_008 + 590_080 + 257 + 512 * 256 + 256
        assert count(model) == rest + layers * block + (256 * 256 if embedding == 'learned' else 0)


def test_transformers_of_2025():
    """From the listings: depth is decoded from the encoder; class tokens meet the decoder's features without convolutions."""
    encoder, aspp, decoder, blocks = 11_176_512, 4_131_584, 2_579_008, 2_369_280
    bins = 590_080 + 257
    # The decoder of depth has 512 channels in, that of classes 256, and no 1x1 to 256.
    classes_decoder = decoder - 9 * 256 * 256 - (256 * 256 + 256)
    predictor = 256 * 19 + 19
    form = 'r18-d16_1xb16-32e_course2025-pretrained'
    attention = build('transformer_multitask-self', form)
    assert count(attention.decode_head.heads['depth'].head) == decoder
    classes = aspp + blocks + classes_decoder + predictor
    assert count(attention) == encoder + classes + aspp + blocks + decoder + bins == 29_275_860

    cross = build('transformer_multitask-cross', form)
    head = cross.decode_head.heads['semseg']
    assert (count(head.head.aspp), count(head.head.decoder), head.class_tokens.numel()) == (aspp, classes_decoder, 19 * 256)
    # Each block has a LayerNorm more, for what the tokens attend to; depth reduces the encoder's 512 channels.
    classes = aspp + classes_decoder + 19 * 256 + blocks + 3 * 512
    assert count(cross) == encoder + classes + 512 * 256 + 256 + blocks + decoder + bins == 25_277_121


def test_the_models_of_2020():
    """The report prints listings and proportions; the numbers are those of its layers."""
    encoder = 21_284_672
    # 1x1, three 3x3 and the pooled 1x1, each with BatchNorm; the last 1x1 as well.
    aspp = 2 * (512 * 256 + 512) + 3 * (9 * 512 * 256 + 512) + (5 * 256 * 256 + 512)
    # One 3x3 on 256 channels of the ASPP and the 64 of the skip.
    predictor = {width: 9 * (256 + 64) * width + width for width in (20, 19, 1)}
    joint = build('joint', 'r34-d16_1xb4-64e_course2020-pretrained')
    assert count(joint.backbone) == encoder
    assert count(joint.decode_head.head.aspp) == aspp == 4_131_840
    assert count(joint) == encoder + aspp + predictor[20] == 25_474_132

    branched = build('branched', 'r34-d16_1xb4-64e_course2020-pretrained')
    assert count(branched.backbone) == encoder
    # Twice the ASPP, and a decoder per task.
    assert count(branched) == encoder + 2 * aspp + predictor[19] + predictor[1] == 29_605_972

    distilled = build('distilled', 'r34-d16_1xb4-64e_course2020-pretrained')
    head = distilled.decode_head
    # Two 3x3 convolutions without bias; the second decoders have as many parameters as the first ones.
    gate = 2 * 9 * 320 * 320
    assert [count(gate) for gate in head.gates.values()] == [gate, gate]
    for task, width in (('semseg', 19), ('depth', 1)):
        first = head.heads[task]
        assert count(head.final_decoders[task]) == count(first.decoder, first.predictor) == predictor[width]
    assert count(distilled) == count(branched) + 2 * gate + predictor[19] + predictor[1] == 33_349_992

    deep = build('distilled', 'r34-d16_1xb4-64e_course2020-deep-pretrained').decode_head
    # Three 3x3 convolutions of 320, 160 and 80 channels; the first two with BatchNorm and without bias.
    steps = (9 * 320 * 160 + 2 * 160) + (9 * 160 * 80 + 2 * 80)
    assert count(deep.final_decoders['semseg']) == steps + 9 * 80 * 19 + 19
    assert count(deep.final_decoders['depth']) == steps + 9 * 80 + 1


@pytest.mark.parametrize(('task', 'channels'), [('semseg', 19), ('depth', 1)])
def test_the_ladder_for_one_task(task, channels):
    """Of 2025: the baseline, Adam 1e-4, ImageNet weights, dilation, then ASPP and skip; batch 16."""
    steps = [
        ('baseline', 'r18-d32_1xb16-16e', 'SGD', 0.01, 32, False),
        ('baseline', 'r18-d32_1xb16-16e_adam', 'Adam', 1e-4, 32, False),
        ('baseline', 'r18-d32_1xb16-16e_adam-pretrained', 'Adam', 1e-4, 32, True),
        ('baseline', 'r18-d16_1xb16-16e_adam-pretrained', 'Adam', 1e-4, 16, True),
        ('deeplabv3plus', 'r18-d16_1xb16-32e_pretrained', 'Adam', 1e-4, 16, True),
    ]
    for system, name, optimizer, rate, stride, pretrained in steps:
        config = load_config(str(CONFIGS / system / f'{system}-{task}_{name}_miniscapes-256x256.py'))
        backbone = config.model.backbone
        assert (config.optim_wrapper.optimizer.type, config.optim_wrapper.optimizer.lr) == (optimizer, rate)
        assert (backbone.output_stride, 'init_cfg' in backbone, config.train_dataloader.batch_size) == (stride, pretrained, 16)
        assert list(config.model.tasks) == list(config.val_evaluator.tasks) == [task]
        head = MODELS.build(config.model).decode_head
        assert sum(head.out_channels.values()) == channels
        if system == 'baseline':
            # A 1x1 to 256 channels with BatchNorm, and the predictor.
            assert count(head) == 512 * 256 + 512 + 256 * channels + channels
