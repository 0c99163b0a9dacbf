"""Attention, blocks, positions and tokens, bins of depth and the heads that compare pixels with them, written out in NumPy."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.models.decode_heads.bins_depth_heads import (
    BinScale,
    expected_depth,
    find_bins,
    fixed_bin_centres,
    predicted_bin_centres,
)
from mtl_plugins.models.decode_heads.transformer_heads import (
    Attention,
    GridTokens,
    TransformerBlock,
    sinusoidal_positions,
)
from tests.models.builders import NARROW, TASKS, build_head, build_segmentor, make_pyramid
from tests.tiny import TinyBackbone


def linear(layer, tokens: np.ndarray) -> np.ndarray:
    return tokens @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def written_out_attention(layer: Attention, tokens, context, position) -> np.ndarray:
    """For one image: ``softmax(Q K^T / sqrt(D)) V`` per head, one query at a time, then the output projection. float64."""
    query, key, value = linear(layer.query, tokens) + position, linear(layer.key, context), linear(layer.value, context)
    width = query.shape[1] // layer.num_heads
    mixed = np.zeros_like(query)
    for head in range(layer.num_heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(query)):
            similarity = np.array([query[i, part] @ key[j, part] for j in range(len(key))]) / math.sqrt(width)
            weights = np.exp(similarity - similarity.max())
            mixed[i, part] = sum(weight * value[j, part] for j, weight in enumerate(weights / weights.sum()))
    return linear(layer.out, mixed)


@pytest.mark.parametrize(('num_heads', 'cross', 'with_position'), [(1, False, False), (4, True, True), (12, False, True)])
def test_attention_is_the_written_out_formula(num_heads, cross, with_position):
    torch.manual_seed(0)
    layer = Attention(12, num_heads=num_heads)
    tokens, context, position = torch.randn(2, 5, 12) * 3, torch.randn(2, 7, 12) * 3, torch.randn(5, 12)
    arguments = dict(context=context if cross else None, position=position if with_position else None)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        layer = layer.to(dtype)
        found = layer(tokens.to(dtype), **{key: None if value is None else value.to(dtype) for key, value in arguments.items()})
        for image in range(2):
            expected = written_out_attention(
                layer,
                tokens[image].double().numpy(),
                (context if cross else tokens)[image].double().numpy(),
                position.double().numpy() if with_position else 0.0,
            )
            np.testing.assert_allclose(found[image].detach().numpy(), expected, rtol=0, atol=tolerance)


def test_dropout_drops_weights_in_training_only():
    torch.manual_seed(0)
    layer = Attention(8, num_heads=2, dropout=0.5)
    tokens = torch.randn(2, 6, 8)
    assert not torch.equal(layer.train()(tokens), layer(tokens))
    expected = written_out_attention(layer, tokens[0].double().numpy(), tokens[0].double().numpy(), 0.0)
    np.testing.assert_allclose(layer.eval()(tokens)[0].detach().numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('cross', [False, True])
def test_block_normalises_before_and_adds_after(cross):
    torch.manual_seed(0)
    block = TransformerBlock(8, num_heads=2, expansion=3, cross=cross).double()
    for norm in (module for module in block.modules() if isinstance(module, torch.nn.LayerNorm)):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    tokens, context, position = (torch.randn(shape, dtype=torch.float64) for shape in ((1, 4, 8), (1, 6, 8), (4, 8)))

    def normalise(norm, values):
        values = (values - values.mean(1, keepdims=True)) / np.sqrt(values.var(1, keepdims=True) + 1e-5)
        return values * norm.weight.detach().numpy() + norm.bias.detach().numpy()

    expected = tokens[0].numpy()
    query = normalise(block.norm, expected)
    seen = normalise(block.context_norm, context[0].numpy()) if cross else query
    expected = expected + written_out_attention(block.attention, query, seen, position.numpy())
    mlp_norm, widen, _, narrow = block.mlp
    hidden = linear(widen, normalise(mlp_norm, expected))
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    expected = expected + linear(narrow, hidden)
    found = block(tokens, context if cross else None, position)
    np.testing.assert_allclose(found[0].detach().numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(('edge', 'channels'), [(1, 4), (3, 8), (4, 20)])
def test_sinusoidal_positions(edge, channels):
    found = sinusoidal_positions(edge, channels)
    half, quarter = channels // 2, channels // 4
    assert found.shape == (edge * edge, channels)
    for row in range(edge):
        for column in range(edge):
            vector = found[row * edge + column]
            for place, half_of_channels in ((row, vector[:half]), (column, vector[half:])):
                for i in range(quarter):
                    angle = place / 10000 ** (2 * i / half)
                    assert half_of_channels[i].item() == pytest.approx(math.sin(angle), abs=1e-6)
                    assert half_of_channels[quarter + i].item() == pytest.approx(math.cos(angle), abs=1e-6)


def build_tokens(in_channels=8, **changes):
    torch.manual_seed(0)
    arguments = dict(num_tokens=9, channels=8, reducer='none', num_layers=0, num_heads=2, expansion=2, dropout=0.0)
    arguments.update(positional_embedding='none', position_added_to='query')
    return GridTokens(in_channels, **{**arguments, **changes})


@pytest.mark.parametrize('size', [(6, 9), (7, 10), (2, 2)])
def test_tokens_are_means_of_cells_row_by_row(size):
    features = torch.randn(2, 8, *size)
    tokens = build_tokens()(features)
    for row in range(3):
        for column in range(3):
            top, bottom = row * size[0] // 3, -(-(row + 1) * size[0] // 3)
            left, right = column * size[1] // 3, -(-(column + 1) * size[1] // 3)
            torch.testing.assert_close(tokens[:, 3 * row + column], features[:, :, top:bottom, left:right].mean((2, 3)))


def test_reducers():
    features = torch.randn(2, 12, 6, 6)
    linear_tokens = build_tokens(12, reducer='linear').eval()
    pooled = F.avg_pool2d(features, 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(linear_tokens(features), linear_tokens.linear_reducer(pooled))
    token_conv = build_tokens(12, reducer='token_conv').eval()
    weight, bias = token_conv.token_reducer.weight[:, :, 0], token_conv.token_reducer.bias
    torch.testing.assert_close(token_conv(features), pooled @ weight.T + bias)
    conv_tokens = build_tokens(12, reducer='conv').eval()
    reduced = torch.einsum('oc,bchw->bohw', conv_tokens.conv_reducer.conv.weight[:, :, 0, 0], features) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(conv_tokens(features), F.avg_pool2d(reduced.relu(), 2).flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ('kind', 'added_to'),
    [('none', 'query'), *product(('learned', 'sinusoidal'), ('query', 'input', 'block_input'))],
)
def test_tokens_pass_through_all_blocks_with_their_positions(kind, added_to):
    tokens = build_tokens(num_layers=2, positional_embedding=kind, position_added_to=added_to)
    features = torch.randn(2, 8, 3, 3)
    expected = features.flatten(2).transpose(1, 2)
    positions = tokens.position.positions
    if kind != 'none' and added_to == 'input':
        expected, positions = expected + positions, None
    for block in tokens.blocks:
        if added_to == 'block_input':
            # Inside the block, and not on the way around it.
            normalised = block.norm(expected) + positions
            expected = expected + block.attention(normalised)
            expected = expected + block.mlp(expected)
        else:
            expected = block(expected, position=positions)
    torch.testing.assert_close(tokens(features), expected)
    # A sinusoid follows from its size: no checkpoint holds it.
    assert ('position.positions' in tokens.state_dict()) == (kind == 'learned')
    tokens(features).square().sum().backward()
    assert all(parameter.grad is not None for parameter in tokens.parameters())


RANGE = (4.0, 300.0)
SIZE = dict(num_bins=16, channels=8)
DECODER = {**NARROW, 'rates': None}


def build(**changes):
    return build_head(**{'type': 'AdaptiveDepthHead', 'out_channels': 1, 'head': DECODER, **SIZE, **changes})


@pytest.mark.parametrize('num_bins', [2, 256])
def test_fixed_centres_cover_the_whole_range(num_bins):
    linear = [4 + 296 * (k + 0.5) / num_bins for k in range(num_bins)]
    log = [4 * 75 ** ((k + 0.5) / num_bins) for k in range(num_bins)]
    for spacing, expected in dict(linear=linear, log=log).items():
        centres = fixed_bin_centres(num_bins, BinScale(RANGE, spacing))
        assert centres.dtype == torch.float32
        np.testing.assert_allclose(centres.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize('spacing', ['linear', 'log'])
@pytest.mark.parametrize('deviation', [0.0, 1.0, 30.0])
def test_ordered_bins_are_the_centres_of_cells_that_fill_the_range(spacing, deviation):
    torch.manual_seed(0)
    raw = torch.randn(3, 16) * deviation
    depths = predicted_bin_centres(raw, BinScale(RANGE, spacing), 'ordered').double().numpy()
    position = (depths - 4) / 296 if spacing == 'linear' else np.log(depths / 4) / math.log(75)
    widths = np.exp(raw.double().numpy())
    widths /= widths.sum(1, keepdims=True)
    # The first cell is the farthest.
    edges = 1 - np.concatenate([np.zeros((3, 1)), widths.cumsum(1)], axis=1)
    np.testing.assert_allclose(edges[:, -1], 0, atol=1e-12)
    np.testing.assert_allclose(position, (edges[:, 1:] + edges[:, :-1]) / 2, atol=1e-5)
    assert (np.diff(depths) <= 1e-3).all()
    assert depths.min() >= 4 * (1 - 1e-6) and depths.max() <= 300 * (1 + 1e-6)


@pytest.mark.parametrize('spacing', ['linear', 'log'])
def test_free_bins_move_within_the_range(spacing):
    raw = torch.tensor([[-1e30, -1e4, -1.0, 0.0, 1.0, 1e4, 1e30]])
    depths = predicted_bin_centres(raw, BinScale(RANGE, spacing), 'free')
    places = [min(max(1 - (k + 0.5) / 7 + value / 4, 0), 1) for k, value in enumerate(raw[0].tolist())]
    expected = [4 + 296 * place if spacing == 'linear' else 4 * 75**place for place in places]
    assert depths[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert places[0] == 0 and places[-1] == 1
    assert predicted_bin_centres(raw.bfloat16(), BinScale(RANGE, spacing), 'free').dtype == torch.float32


def test_direct_bins_are_exponentials_within_the_range():
    depths = predicted_bin_centres(torch.tensor([[-1e30, -1.0, 0.0, 0.5, 4.0, 1e30]]), BinScale((0.1, 300.0), 'log'), 'direct')
    expected = [0.1, math.exp(-1), 1.0, math.exp(0.5), math.exp(4), 300.0]
    assert depths[0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('order', ['free', 'direct'])
def test_bins_find_their_way_back_from_an_end(order):
    """Behind a sigmoid, bins that were far beyond an end got no gradient: all of them at 4 m, a model stayed there."""
    raw = torch.tensor([[-40.0, -40.0, 40.0, 40.0]], requires_grad=True)
    depths = predicted_bin_centres(raw, BinScale(RANGE, 'log'), order)
    (wanted,) = torch.autograd.grad((depths - 50).square().sum(), raw, retain_graph=True)
    assert (wanted[0, :2] < -1).all() and (wanted[0, 2:] > 1).all()
    # What leads farther out is not followed.
    (outwards,) = torch.autograd.grad(depths[0, :2].sum(), raw)
    assert not outwards.any()


@pytest.mark.parametrize(('latent_batch', 'depth_batch'), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_expected_depth_has_value_and_gradient_of_the_written_out_form(latent_batch, depth_batch):
    torch.manual_seed(0)
    queries = (torch.randn(2, 6, 3, 4) * 3).contiguous(memory_format=torch.channels_last)
    leaves = [queries, torch.randn(latent_batch, 5, 6), torch.rand(depth_batch, 5) * 296 + 4]
    weight = torch.randn(2, 1, 3, 4)

    def plain(queries, latents, depths):
        similarity = torch.einsum('bchw,bkc->bkhw', queries, latents.expand(2, -1, -1)) / math.sqrt(6)
        return (similarity.softmax(1) * depths[..., None, None]).sum(1, keepdim=True)

    def compute(function, dtype):
        tensors = [leaf.to(dtype, copy=True).requires_grad_() for leaf in leaves]
        depth = function(*tensors)
        return [depth, *torch.autograd.grad((depth * weight).sum(), tensors)]

    for found, expected in zip(compute(expected_depth, torch.float32), compute(plain, torch.float64), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    # Bins that stay where they are ask for no gradient.
    queries, latents, depths = leaves
    expected_depth(queries.requires_grad_(), latents, depths).sum().backward()
    assert queries.grad is not None and depths.grad is None


@pytest.mark.parametrize('latents', ['decoder', 'encoder', 'aspp'])
def test_adaptive_head_of_the_course_is_its_definition(latents):
    """The decoder starts from the encoder, a bin is the exponential of a projection, the similarity is not scaled."""
    widths = dict(decoder=8, encoder=16, aspp=12)
    form = dict(bin_order='direct', scale_similarity=False, depth_range=(0.1, 300.0), num_layers=2)
    head = build(latents=latents, token_channels=widths[latents], **form).double().eval()
    features = make_pyramid((64, 96), dtype=torch.float64)
    coarsest = features[4]
    (decoder,) = head.head.decoder
    assert head.head.aspp is None and head.head.context_channels == 16
    pixels = head.head.predictor(decoder(coarsest, features[1]))
    source = dict(decoder=pixels, encoder=coarsest).get(latents)
    if source is None:
        source = head.aspp(coarsest)
    cells = F.adaptive_avg_pool2d(source, 4)
    tokens = torch.stack([cells[:, :, k // 4, k % 4] for k in range(16)], dim=1)
    for block in head.tokens.blocks:
        tokens = block(tokens)
    bins = (tokens @ head.bin_projection.weight[0] + head.bin_projection.bias).exp().clamp(0.1, 300.0)
    if latents != 'decoder':
        tokens = tokens @ head.latent_projection.weight.T + head.latent_projection.bias
    queries = F.conv2d(pixels, head.query_conv.weight, head.query_conv.bias, padding=1)
    weights = torch.einsum('bchw,bkc->bkhw', queries, tokens).softmax(1)
    expected = (weights * bins[..., None, None]).sum(1, keepdim=True)
    depth, found = head.predict(features)
    torch.testing.assert_close(found.double(), bins, rtol=1e-5, atol=0)
    torch.testing.assert_close(depth.double(), expected, rtol=1e-5, atol=0)
    assert depth.shape == (2, 1, 16, 24)


def test_fixed_bins_do_not_move_with_the_type_of_the_weights():
    """As a buffer they were rounded to bfloat16: neighbours 1.7 % apart, places wrong by up to 0.4 %."""
    head = build(type='FixedBinsDepthHead', num_bins=256)
    before = head.predict(make_pyramid((32, 32)))[1]
    after = head.bfloat16().predict([feature.bfloat16() for feature in make_pyramid((32, 32))])[1]
    assert after.dtype == torch.float32 and torch.equal(after, before)
    assert not [name for name in head.state_dict() if 'centres' in name]


@pytest.mark.parametrize('spacing', ['linear', 'log'])
@pytest.mark.parametrize(('decoding', 'training'), [('expectation', False), ('argmax', False), ('argmax', True)])
def test_fixed_bins_head_is_its_definition(spacing, decoding, training):
    head = build(type='FixedBinsDepthHead', spacing=spacing, decoding=decoding).double().train(training)
    features = make_pyramid((40, 56), dtype=torch.float64)
    pixels, centres = head.head(features), fixed_bin_centres(16, head.scale)
    queries = F.conv2d(pixels, head.query_conv.weight, head.query_conv.bias, padding=1)
    similarity = torch.einsum('bchw,kc->bhwk', queries, head.latents) / math.sqrt(8)
    # The argmax decides in evaluation only.
    decides = decoding == 'argmax' and not training
    expected = centres[similarity.argmax(-1)].double() if decides else similarity.softmax(-1) @ centres.double()
    depth, bins = head.predict(features)
    torch.testing.assert_close(depth.squeeze(1).double(), expected, rtol=1e-5, atol=0)
    assert torch.equal(bins[0], centres) and depth.shape == (2, 1, 10, 14)


@pytest.mark.parametrize(
    'changes',
    [
        dict(),
        dict(latents='encoder', channel_reducer='linear'),
        dict(latents='encoder', channel_reducer='conv'),
        dict(latents='aspp', head=NARROW),
        dict(latents='aspp', head=NARROW, channel_reducer='linear'),
        dict(latents='decoder', channel_reducer='conv'),
        dict(latents='aspp', head=dict(type='ASPPHead', channels=8, rates=(1, 2))),
        dict(positional_embedding='sinusoidal', dropout=0.2),
        dict(latents='aspp', scale_similarity=False),
        dict(latents='encoder', token_channels=16),
        dict(latents='encoder', channel_reducer='token_conv'),
        dict(bin_order='ordered', spacing='linear', num_bins=25),
        dict(query_stride=2, num_layers=1, num_heads=8, expansion=2),
    ],
    ids=lambda changes: '-'.join(f'{key}' for key in changes) or 'default',
)
def test_adaptive_head_in_all_its_forms(changes):
    head, features = build(**changes), make_pyramid((64, 96))
    depth, bins = head.predict(features)
    stride = 16 if changes.get('head', DECODER)['type'] == 'ASPPHead' else 4 * changes.get('query_stride', 1)
    assert depth.shape == (2, 1, 64 // stride, 96 // stride)
    assert bins.shape == (2, changes.get('num_bins', 16)) and not torch.equal(bins[0], bins[1])
    assert bins.min() >= 4 and bins.max() <= 300.001
    assert (depth >= bins.amin(1).view(2, 1, 1, 1) - 1e-3).all() and (depth <= bins.amax(1).view(2, 1, 1, 1) + 1e-3).all()
    depth.log().square().sum().backward()
    assert not [name for name, parameter in head.named_parameters() if parameter.grad is None]
    assert not [name for name, parameter in head.named_parameters() if parameter.ndim > 1 and not parameter.grad.any()]


def test_latents_that_do_not_come_from_the_encoder_do_not_ask_for_its_coarsest_map():
    """Whatever the latents were, a backbone without a map at index 4 was refused."""
    in_channels = (None, 8, 10, 12, None)
    head = dict(type='LinearHead', channels=8, index=3)
    features = (None, *make_pyramid((64, 64))[1:4], None)
    assert build(in_channels=in_channels, head=head)(features).shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match=r'^Map -1 of the feature pyramid should exist'):
        build(in_channels=in_channels, head=head, latents='encoder', channel_reducer='linear')


@pytest.mark.parametrize('label', ['depth', 'range'])
def test_a_picture_of_bins_draws_what_the_model_predicts(label):
    """The name `depth` was written into the code: a task that learns another label drew nothing."""
    model = build_segmentor(
        backbone=dict(type=TinyBackbone),
        decode_head=dict(
            type='BranchedHead', head=NARROW, task_heads=dict(depth=dict(type='FixedBinsDepthHead', head=NARROW, **SIZE))
        ),
        tasks=dict(TASKS, depth=dict(type='DepthTask', representation='metres', label=label)),
    ).eval()
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    found = find_bins(model)
    depth, bins = found.predict(image)
    assert found.label == label
    np.testing.assert_allclose(bins, 4 * 75 ** ((np.arange(16) + 0.5) / 16), rtol=1e-5)
    with torch.inference_mode():
        inputs = model.data_preprocessor(dict(inputs=torch.from_numpy(image)[None]))['inputs']
        expected = model.predict_arrays(inputs)[label][0, :40, :50]
    np.testing.assert_array_equal(depth, expected.numpy())
    assert not found.head._forward_pre_hooks
