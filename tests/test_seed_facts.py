"""Parameter counts that the course's reports print, to be met exactly by the configs."""

import itertools

import pytest
import torch

from mtl_plugins.config.load import load_config
from mtl_plugins.registry import MODELS
from tests.tiny import CONFIGS

PLAIN, OF_2025, OF_2020 = 'r18-d16_1xb16-32e', 'r18-d16_1xb16-32e_course2025', 'r34-d16_1xb4-64e_course2020'
# Random and ImageNet weights.
STARTS = PLAIN, f'{PLAIN}_pretrained'


def build(system: str, start: str, **options):
    """The model of a config; ``options`` are of the map head."""
    path = CONFIGS / system.split('-')[0] / f'{system}_{start}_miniscapes-256x256.py'
    overrides = {f'model.decode_head.head.{name}': value for name, value in options.items()}
    with torch.device('meta'):
        return MODELS.build(load_config(str(path), overrides).model)


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def size_of_blocks(width: int, number: int) -> int:
    return number * (4 * (width**2 + width) + 4 * width + 8 * width**2 + 5 * width)


ENCODER, ASPP, BLOCKS = 11_176_512, 4_131_584, 2_369_280
# The decoder of depth has 512 channels in; that of classes 256, and no 1x1 to 256. The reducer is a 1x1 from 512 to 256.
DECODER, QUERIES, PROJECTION, REDUCER = 2_579_008, 590_080, 257, 512 * 256 + 256
BINS, CLASSES_DECODER, PREDICTOR = QUERIES + PROJECTION, DECODER - 9 * 256 * 256 - (256 * 256 + 256), 256 * 19 + 19
# Of 2020: 1x1, three 3x3 and the pooled 1x1, each with BatchNorm; the last 1x1 as well. A 3x3 on the ASPP and the 64 of the skip.
ENCODER_34, ASPP_2020 = 21_284_672, 2 * (512 * 256 + 512) + 3 * (9 * 512 * 256 + 512) + (5 * 256 * 256 + 512)
PREDICTORS = {width: 9 * (256 + 64) * width + width for width in (20, 19, 1)}
BRANCHED_2020 = ENCODER_34 + 2 * ASPP_2020 + PREDICTORS[19] + PREDICTORS[1]
# Two 3x3 convolutions without bias; three of 320, 160 and 80 channels, the first two with BatchNorm and without bias.
GATE, STEPS = 2 * 9 * 320 * 320, (9 * 320 * 160 + 2 * 160) + (9 * 160 * 80 + 2 * 80)

# Of parts of the decode head, of the backbone and, without a name, of the whole.
ADAPTIVE = {'head.head': DECODER, 'head.query_conv': QUERIES}
COUNTS = [
    *(('joint', start, {'': 16_608_132, 'backbone': ENCODER, 'head.aspp': ASPP, 'head.decoder head.predictor': 1_300_036})
      for start in STARTS),
    *(('branched', start, {'': 22_034_612, 'heads.semseg.aspp': ASPP, 'heads.semseg.decoder heads.semseg.predictor': 1_299_779,
                           'heads.depth.aspp': ASPP, 'heads.depth.decoder heads.depth.predictor': 1_295_153})
      for start in STARTS),
    *(('adaptive_depth', start, {'': 16_715_137, **ADAPTIVE, 'head.tokens': BLOCKS, 'head.bin_projection': PROJECTION})
      for start in (*STARTS, f'{OF_2025}-pretrained')),
    # The report prints that one count; those of its other forms follow from the listing's layers.
    ('adaptive_depth', f'{OF_2025}-encoder-latents-pretrained', {**ADAPTIVE, '': ENCODER + DECODER + REDUCER + BLOCKS + BINS}),
    # The bins' depths are projected from 512 channels, the latents to 256.
    ('adaptive_depth', f'{OF_2025}-width512-pretrained',
     {**ADAPTIVE, '': ENCODER + DECODER + size_of_blocks(512, 3) + QUERIES + 513 + REDUCER}),
    # Decoder and ASPP both start from the encoder.
    ('adaptive_depth', f'{OF_2025}-aspp-latents-pretrained', {**ADAPTIVE, '': ENCODER + DECODER + ASPP + 2 * BLOCKS + BINS}),
    # From the listings: depth is decoded from the encoder; class tokens meet the decoder's features without convolutions.
    ('transformer_multitask-self', f'{OF_2025}-pretrained',
     {'heads.depth.head': DECODER, '': ENCODER + 2 * (ASPP + BLOCKS) + CLASSES_DECODER + PREDICTOR + DECODER + BINS}),
    # Each block has a LayerNorm more, for what the tokens attend to; depth reduces the encoder's 512 channels.
    ('transformer_multitask-cross', f'{OF_2025}-pretrained',
     {'heads.semseg.head.aspp': ASPP, 'heads.semseg.head.decoder': CLASSES_DECODER,
      '': ENCODER + ASPP + CLASSES_DECODER + 19 * 256 + BLOCKS + 3 * 512 + REDUCER + BLOCKS + DECODER + BINS}),
    ('joint', f'{OF_2020}-pretrained',
     {'backbone': ENCODER_34, 'head.aspp': ASPP_2020, '': ENCODER_34 + ASPP_2020 + PREDICTORS[20]}),
    ('branched', f'{OF_2020}-pretrained', {'backbone': ENCODER_34, '': BRANCHED_2020}),
    # The second decoders have as many parameters as the first ones.
    ('distilled', f'{OF_2020}-pretrained',
     {'gates.semseg': GATE, 'gates.depth': GATE, 'final_decoders.semseg': PREDICTORS[19], 'final_decoders.depth': PREDICTORS[1],
      'heads.semseg.decoder heads.semseg.predictor': PREDICTORS[19], 'heads.depth.decoder heads.depth.predictor': PREDICTORS[1],
      '': BRANCHED_2020 + 2 * GATE + PREDICTORS[19] + PREDICTORS[1]}),
    ('distilled', f'{OF_2020}-deep-pretrained',
     {'final_decoders.semseg': STEPS + 9 * 80 * 19 + 19, 'final_decoders.depth': STEPS + 9 * 80 + 1}),
]  # fmt: skip


@pytest.mark.parametrize(('system', 'start', 'parts'), COUNTS)
def test_parameters_of_the_parts(system, start, parts):
    model = build(system, start)
    for names, number in parts.items():
        modules = [model if name in ('', 'backbone') else model.decode_head for name in names.split(' ')]
        parts = [module.get_submodule(name) for module, name in zip(modules, names.split(' '), strict=True)]
        assert (names, sum(map(count, parts))) == (names, number)
    assert size_of_blocks(256, 3) == BLOCKS


def test_the_settings_that_the_report_of_2025_varies():
    """Skip and convolutions of figure 3; heads, expansion, layers and embedding of figure 9."""
    for skip, convs in itertools.product((16, 32, 48, 64), (1, 2, 3)):
        model = build('deeplabv3plus-semseg', f'{PLAIN}_pretrained', skip_channels=skip, num_convs=convs)
        decoder = 64 * skip + skip + 9 * (256 + skip) * 256 + 3 * 256 + (convs - 1) * (9 * 256 * 256 + 3 * 256) + PREDICTOR
        assert count(model) == ENCODER + ASPP + decoder
        assert (skip, convs) != (48, 2) or decoder == 1_299_779
    for heads, expansion, layers, embedding in ((4, 4, 3, 'none'), (4, 8, 3, 'none'), (8, 8, 3, 'none'), (8, 4, 6, 'learned')):
        form = dict(num_heads=heads, expansion=expansion, num_layers=layers, positional_embedding=embedding)
        model = build('adaptive_depth', f'{OF_2025}-encoder-latents-pretrained', **form)
        block = 4 * (256**2 + 256) + 4 * 256 + 2 * expansion * 256**2 + expansion * 256 + 256
        rest = ENCODER + DECODER + BINS + REDUCER
        assert count(model) == rest + layers * block + (256 * 256 if embedding == 'learned' else 0)


@pytest.mark.parametrize(('task', 'channels'), [('semseg', 19), ('depth', 1)])
def test_the_ladder_for_one_task(task, channels):
    """Of 2025: the baseline, Adam 1e-4, ImageNet weights, dilation, then ASPP and skip; tests/test_configs.py reads the names."""
    for system, name, optimizer, rate, pretrained in (
        ('baseline', 'r18-d32_1xb16-16e', 'SGD', 0.01, False),
        ('baseline', 'r18-d32_1xb16-16e_adam', 'Adam', 1e-4, False),
        ('baseline', 'r18-d32_1xb16-16e_adam-pretrained', 'Adam', 1e-4, True),
        ('baseline', 'r18-d16_1xb16-16e_adam-pretrained', 'Adam', 1e-4, True),
        ('deeplabv3plus', 'r18-d16_1xb16-32e_pretrained', 'Adam', 1e-4, True),
    ):
        config = load_config(str(CONFIGS / system / f'{system}-{task}_{name}_miniscapes-256x256.py'))
        assert (config.optim_wrapper.optimizer.type, config.optim_wrapper.optimizer.lr) == (optimizer, rate)
        assert ('init_cfg' in config.model.backbone) is pretrained and list(config.model.tasks) == [task]
        if system == 'baseline':
            # A 1x1 to 256 channels with BatchNorm, and the predictor.
            assert count(MODELS.build(config.model).decode_head) == 512 * 256 + 512 + 256 * channels + channels
