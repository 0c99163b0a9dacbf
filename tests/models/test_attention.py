"""Attention, blocks, positions and grid tokens against the formulas written out in NumPy."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.models.decode_heads.transformer_heads import (
    Attention,
    GridTokens,
    TransformerBlock,
    sinusoidal_positions,
)


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
