"""Heads for one map against their definitions, and every kind of head in a whole model."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.models.decode_heads.distilled_head import DeepDecoder, GatedFeatures
from mtl_plugins.models.utils.inference import prepare_for_inference
from tests.models.builders import (
    BINS,
    BLOCKS,
    NARROW,
    TASKS,
    WIDTHS,
    as_if_trained,
    build_head,
    build_segmentor,
    make_batch,
    make_pyramid,
)
from tests.tiny import TinyBackbone

SQUEEZED = {**NARROW, 'squeeze_excitation': 4, 'aspp_squeeze_excitation': 2}
METRES = dict(semseg=TASKS['semseg'], depth=dict(type='DepthTask', representation='metres'))


def branched(head, depth):
    return dict(type='BranchedHead', head=head, task_heads=dict(depth=depth))


# Every kind of head, as a whole decode head.
SYSTEMS = {
    'linear': dict(type='LinearHead', channels=8),
    'aspp': dict(type='ASPPHead', channels=8, rates=(1, 2)),
    'joint': NARROW,
    'separable': {**NARROW, 'separable': True, 'num_convs': 2},
    'squeeze': {**NARROW, 'squeeze_excitation': 4},
    'per_task': dict(type='AttentiveHead', head=SQUEEZED),
    'skips': {**NARROW, 'skip_indices': (2, 1), 'decoder_channels': (12, 8)},
    'branched': dict(type='BranchedHead', head=NARROW),
    'distilled': dict(type='DistilledHead', head=NARROW),
    'deep': dict(type='DistilledHead', head=NARROW, final_decoder='deep', gate_kernel_size=3),
    'raw': dict(
        type='DistilledHead', head={**NARROW, 'skip_channels': None, 'num_convs': 0, 'pooled_relu': False, 'fuse_norm': True}
    ),
    'second': dict(type='DistilledHead', head=NARROW, final_decoder={**NARROW, 'rates': None}),
    'fixed_bins': branched(NARROW, dict(type='FixedBinsDepthHead', head=NARROW, channels=8)),
    'self_attention': branched(
        dict(type='TransformerSegHead', rates=(1, 2), num_tokens=9, skip_channels=4, positional_embedding='learned', **BLOCKS),
        {**BINS, 'latents': 'aspp', 'positional_embedding': 'sinusoidal'},
    ),
    'cross_attention': branched(
        dict(type='ClassTokenSegHead', head=NARROW, **BLOCKS),
        {**BINS, 'latents': 'encoder', 'channel_reducer': 'conv', 'bin_order': 'ordered'},
    ),
}


def build(system):
    torch.manual_seed(0)
    decode_head = SYSTEMS[system]
    tasks = METRES if 'task_heads' in decode_head else TASKS
    per_task = dict(type='DilatedResNet', squeeze_excitation=4, num_tasks=2)
    backbone = per_task if decode_head['type'] == 'AttentiveHead' else dict(type=TinyBackbone)
    return build_segmentor(decode_head=decode_head, tasks=tasks, backbone=backbone)


def convolve(conv_norm_act, features):
    """3x3, BatchNorm with its untrained statistics, ReLU, written out."""
    conv = conv_norm_act.conv
    return F.conv2d(features, conv.weight, conv.bias, padding=1).div(math.sqrt(1 + 1e-5)).relu()


@pytest.mark.parametrize('num_convs', [1, 2, 3])
@pytest.mark.parametrize('squeeze_excitation', [None, 2])
def test_several_skips_are_one_decoder_after_the_other(num_convs, squeeze_excitation):
    head = build_head(
        type='DeepLabV3PlusHead', out_channels=5, channels=12, rates=None, skip_indices=(2, 1, 0), skip_channels=(6, 5, 4),
        decoder_channels=(10, 9, 8), num_convs=num_convs, squeeze_excitation=squeeze_excitation,
    ).eval()  # fmt: skip
    features = make_pyramid()
    embedding = features[4]
    for stage, index in zip(head.decoder, (2, 1, 0), strict=True):
        skip = F.conv2d(features[index], stage.skip.weight, stage.skip.bias)
        embedding = F.interpolate(embedding, size=skip.shape[-2:], mode='bilinear', align_corners=False)
        embedding = torch.cat([embedding, skip], dim=1)
        assert len(stage.convs) == num_convs
        for conv in stage.convs:
            embedding = convolve(conv, embedding)
    if squeeze_excitation:
        squeezed = head.squeeze_excitation
        assert (squeezed.fc1.out_channels, squeezed.fc1.in_channels) == (4, 8)
        excitation = squeezed.fc1(embedding.mean((2, 3), keepdim=True)).relu()
        embedding = embedding * squeezed.fc2(excitation).sigmoid()
    expected = F.conv2d(embedding, head.predictor.weight, head.predictor.bias)
    torch.testing.assert_close(head(features), expected)
    context, found = head.embed(features)
    assert context is features[4] and found.shape == (2, head.channels, 49, 66) and head.context_channels == WIDTHS[4]


def test_each_task_has_its_own_squeeze_and_excitations():
    head = build_head(type='AttentiveHead', head=SQUEEZED, out_channels=dict(semseg=5, depth=1)).eval()
    features, found = make_pyramid(batch=4), None
    found, weights = head(features), head.head.state_dict()
    for number, (task, channels) in enumerate(dict(semseg=slice(0, 5), depth=slice(5, 6)).items()):
        alone = build_head(**{**SQUEEZED, 'out_channels': 6}).eval()
        alone.load_state_dict(
            {
                name: weights.get(name.replace('excitation.', f'excitation.{number}.'), weights.get(name))
                for name in alone.state_dict()
            }
        )
        own = [maps[2 * number : 2 * number + 2] for maps in features]
        torch.testing.assert_close(found[task], [alone(own)[:, channels]])
        squeezed, context = alone.aspp_squeeze_excitation, alone.aspp(own[4])
        assert (squeezed.fc1.out_channels, squeezed.fc1.in_channels) == (4, 8)
        excitation = squeezed.fc2(squeezed.fc1(context.mean((2, 3), keepdim=True)).relu()).sigmoid()
        torch.testing.assert_close(alone.embed(own)[0], context * excitation)


def test_without_convolutions_a_3x3_predicts_from_the_concatenation_with_the_raw_skips():
    head = build_head(type='DeepLabV3PlusHead', out_channels=5, channels=12, rates=(1, 2), skip_channels=None, num_convs=0).eval()
    features = make_pyramid()
    upsampled = F.interpolate(head.aspp(features[4]), size=features[1].shape[-2:], mode='bilinear', align_corners=False)
    embedding = torch.cat([upsampled, features[1]], dim=1)
    torch.testing.assert_close(head.embed(features)[1], embedding)
    torch.testing.assert_close(head(features), F.conv2d(embedding, head.predictor.weight, head.predictor.bias, padding=1))
    assert head.channels == 12 + 8 and not list(head.decoder.parameters())
    two = build_head(
        type='DeepLabV3PlusHead', out_channels=5, rates=None, skip_indices=(2, 1), skip_channels=(None, 6), num_convs=0
    )
    assert two.channels == 16 + 10 + 6 and two(features).shape == (2, 5, 25, 33)


@pytest.mark.parametrize(
    ('channels', 'index', 'size'), [(None, -1, (7, 9)), (8, -1, (7, 9)), (None, 1, (25, 33)), (8, 0, (49, 66))]
)
def test_linear_head(channels, index, size):
    head, features = build_head(type='LinearHead', out_channels=3, channels=channels, index=index).eval(), make_pyramid()
    embedding = features[index]
    if channels:
        weight = head.projection.conv.weight[:, :, 0, 0]
        embedding = torch.einsum('oc,bchw->bohw', weight, embedding).div(math.sqrt(1 + 1e-5)).relu()
    expected = torch.einsum('oc,bchw->bohw', head.predictor.weight[:, :, 0, 0], embedding) + head.predictor.bias.view(1, 3, 1, 1)
    assert expected.shape == (2, 3, *size)
    torch.testing.assert_close(head(features), expected, rtol=1e-4, atol=1e-5)


def test_transformer_head_goes_through_a_grid():
    head = build_head(type='TransformerSegHead', out_channels=5, rates=(1,), num_tokens=9, skip_channels=4, **BLOCKS).eval()
    features = make_pyramid()
    pooled = F.adaptive_avg_pool2d(head.aspp(features[4]), 3)
    tokens = torch.stack([pooled[:, :, i // 3, i % 3] for i in range(9)], dim=1)
    for block in head.tokens.blocks:
        tokens = block(tokens)
    grid = torch.stack([tokens[:, i] for i in range(9)], dim=2).view(2, 8, 3, 3)
    context, embedding = head.embed(features)
    torch.testing.assert_close(context, grid)
    torch.testing.assert_close(embedding, head.decoder(grid, features[1]))
    torch.testing.assert_close(head(features), head.predictor(embedding))
    assert head(features).shape == (2, 5, 25, 33)


@pytest.mark.parametrize('keys', ['decoder', 'aspp', 'encoder'])
@pytest.mark.parametrize(('channels', 'plain'), [(8, False), (8, True), (12, True)])
def test_class_tokens_look_at_the_keys_and_are_compared_with_the_pixels(keys, channels, plain):
    """In the plain form the embedding holds features and queries at once, and the similarity has no scale."""
    narrow = {**NARROW, 'rates': (1,), 'skip_indices': (2, 1)}
    form = dict(keys=keys, channels=channels, num_layers=2, query_conv=not plain, scale_similarity=not plain)
    head = build_head(type='ClassTokenSegHead', out_channels=5, head=narrow, **{**BLOCKS, **form}).eval()
    features = make_pyramid((40, 56))
    context = head.head.aspp(features[4])
    coarse, fine = head.head.decoder
    pixels = fine(coarse(context, features[2]), features[1])
    if channels == 8 and plain:
        assert not list(head.head.predictor.parameters())
    else:
        weight, bias = head.head.predictor.weight, head.head.predictor.bias
        pixels = torch.einsum('oc,bchw->bohw', weight[:, :, 0, 0], pixels) + bias[:, None, None]
    seen = dict(decoder=pixels, aspp=context, encoder=features[4])[keys].flatten(2).mT
    if seen.shape[-1] != channels:
        seen = seen @ head.key_reducer.weight.T + head.key_reducer.bias
    tokens = head.class_tokens.expand(2, -1, -1)
    for block in head.blocks:
        tokens = block(tokens, seen)
    if not plain:
        pixels = F.conv2d(pixels, head.query_conv.weight, head.query_conv.bias, padding=1) / math.sqrt(8)
    torch.testing.assert_close(head(features), torch.einsum('bnc,bchw->bnhw', tokens, pixels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('system', list(SYSTEMS))
def test_every_head_trains_in_bfloat16(system):
    model = build(system)
    batch = model.data_preprocessor(make_batch((48, 64)))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**batch, mode='loss')
    total, logged = model.parse_losses(losses)
    exact = model(**batch, mode='loss')
    assert all(value.dtype == torch.float32 for value in logged.values())
    for name, value in exact.items():
        torch.testing.assert_close(losses[name], value, rtol=0.1, atol=0.05)
    total.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    copy.deepcopy(model)  # no head keeps a tensor of a graph


@pytest.mark.parametrize('system', list(SYSTEMS))
def test_every_head_can_be_prepared_for_inference(system):
    model = as_if_trained(build(system))
    inputs = model.data_preprocessor(make_batch((48, 64)))['inputs']
    before = copy.deepcopy(model.state_dict())
    fast = prepare_for_inference(model)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    with torch.inference_mode():
        expected, fast = model(inputs), fast(inputs)
        plain, rounded = model.predict_arrays(inputs), prepare_for_inference(model, dtype=torch.bfloat16).predict_arrays(inputs)
    for task, output in expected.items():
        torch.testing.assert_close(fast[task], output, rtol=1e-3, atol=1e-3 * output.abs().max().item())
    assert rounded['depth'].dtype == torch.float32 and (rounded['depth'] > 0).all()
    assert (rounded['depth'] / plain['depth']).log().abs().mean() < 0.05
    assert (rounded['semseg'] == plain['semseg']).float().mean() > 0.8
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_that_was_exported_first_predicts_and_learns_after():
    """The first forward pass of a process, inside an export, used to leave constants of the trace for all later ones."""
    model = build_segmentor(head='JointHead', channels=16).eval()
    decoders = [module for module in model.modules() if hasattr(module, 'factored_upsampling')]
    for decoder in decoders:
        decoder.factored_upsampling = True
    # A size of no other test.
    inputs = torch.randn(1, 3, 112, 208)
    program = torch.export.export(model, (inputs,), strict=False)
    with torch.inference_mode():
        predicted = model(inputs)
        assert all(torch.equal(each, model(inputs)[name]) for name, each in predicted.items())
        for decoder in decoders:
            decoder.factored_upsampling = False
        for found in (predicted, program.module()(inputs)):
            torch.testing.assert_close(dict(found), model(inputs), rtol=1e-4, atol=1e-4)
    for decoder in decoders:
        decoder.factored_upsampling = True
    model.train()(inputs.repeat(2, 1, 1, 1))['semseg'].sum().backward()
    assert decoders[0].convs[0].conv.weight.grad.isfinite().all()


@pytest.mark.parametrize('kernel_size', [1, 3])
def test_a_gate_is_convolution_times_sigmoid_of_convolution_and_starts_half_open(kernel_size):
    torch.manual_seed(0)
    gate, features = GatedFeatures(6, kernel_size), torch.randn(2, 6, 5, 7)
    half = F.conv2d(features, gate.conv.weight[:6], padding=kernel_size // 2) / 2
    assert torch.equal(gate(features), half) and half.std() > 0
    torch.nn.init.normal_(gate.conv.weight)
    let_through, attention = (F.conv2d(features, weight, padding=kernel_size // 2) for weight in gate.conv.weight.chunk(2))
    torch.testing.assert_close(gate(features), let_through * attention.sigmoid())


@pytest.mark.parametrize('final_decoder', ['simple', {**NARROW, 'rates': None}])
def test_what_a_task_predicts_is_its_definition(final_decoder):
    channels, features = dict(semseg=19, depth=1), make_pyramid()
    head = build_head(type='DistilledHead', head=NARROW, out_channels=channels, final_decoder=final_decoder).eval()
    torch.nn.init.normal_(head.gates['semseg'].conv.weight)
    found = head(features)
    embeddings = {task: head.heads[task].embed(features)[1] for task in channels}
    for task, other in (('semseg', 'depth'), ('depth', 'semseg')):
        second, (initial, final) = head.final_decoders[task], found[task]
        torch.testing.assert_close(initial, head.heads[task](features))
        seen = embeddings[task] + head.gates[other](embeddings[other])
        expected = second(seen) if final_decoder == 'simple' else second.predictor(second.decoder[0](seen, features[1]))
        torch.testing.assert_close(final, expected)
        assert initial.shape == final.shape == (2, channels[task], 25, 33)


@pytest.mark.parametrize('size', [(25, 33), (1, 1), (7, 4)])
def test_deep_decoder_quadruples_the_resolution(size):
    torch.manual_seed(0)
    decoder = DeepDecoder(16, 5).eval()
    embedding = torch.randn(2, 16, *size)
    found = decoder(embedding)
    assert found.shape == (2, 5, 4 * size[0], 4 * size[1])
    assert [conv.conv.weight.shape[:2] for conv in decoder.reduce] == [(8, 16), (4, 8)]
    for conv in decoder.reduce:
        embedding = F.interpolate(convolve(conv, embedding), scale_factor=2, mode='bilinear')
    expected = F.conv2d(embedding, decoder.predictor.weight, decoder.predictor.bias, padding=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('system', ['distilled', 'deep'])
def test_both_predictions_are_charged_and_logged(system):
    """At 33x47 the deep decoder's map, 36x48, is larger than the labels."""
    model = build(system)
    batch = model.data_preprocessor(make_batch((33, 47)))
    initial_and_final = model.decode(batch['inputs'])
    _, logged = model.parse_losses(model(**batch, mode='loss'))
    losses = dict(semseg=('ce', 'semseg/loss_ce'), depth=('silog', 'depth/loss_silog'))
    names = {f'{task}/{name}_{place}' for task, (name, _) in losses.items() for place in ('initial', 'final')}
    assert set(logged) == {'loss', 'semseg/loss_ce', 'depth/loss_silog'} | names
    for task, (name, key) in losses.items():
        parts = [logged[f'{task}/{name}_{place}'] for place in ('initial', 'final')]
        torch.testing.assert_close(logged[key], sum(parts) / 2)
        assert parts[0] != parts[1]
        for prediction, part in zip(initial_and_final[task], parts, strict=True):
            torch.testing.assert_close(model.tasks[task].loss(prediction, batch['targets'][task]), part)
    torch.testing.assert_close(logged['loss'], (logged['semseg/loss_ce'] + logged['depth/loss_silog']) / 2)
    upsampled = F.interpolate(initial_and_final['semseg'][1], size=(33, 47), mode='bilinear')
    expected = F.cross_entropy(upsampled, batch['targets']['semseg'].long(), ignore_index=255)
    torch.testing.assert_close(logged['semseg/ce_final'], expected)


def test_the_final_prediction_counts():
    model = build('distilled').eval()
    images = torch.randn(2, 3, 33, 47)
    with torch.no_grad():
        final = model.decode(images)['semseg'][1]
        expected = F.interpolate(final, size=(33, 47), mode='bilinear')
        assert torch.equal(model(images)['semseg'], expected)
        assert torch.equal(model.predict_arrays(images)['semseg'].long(), expected.argmax(1))
