"""The exchange between tasks, and the two predictions of each."""

import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.models.decode_heads.distilled_head import DeepDecoder, GatedFeatures
from tests.models.builders import NARROW, build_head, build_segmentor, make_batch, make_pyramid
from tests.tiny import TinyBackbone

CHANNELS = dict(semseg=19, depth=1)


def build(**changes):
    return build_head(type='DistilledHead', head=NARROW, out_channels=CHANNELS, **changes)


def build_model(**changes):
    torch.manual_seed(0)
    return build_segmentor(backbone=dict(type=TinyBackbone), decode_head=dict(type='DistilledHead', head=NARROW, **changes))


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
    head, features = build(final_decoder=final_decoder).eval(), make_pyramid()
    torch.nn.init.normal_(head.gates['semseg'].conv.weight)
    found = head(features)
    embeddings = {task: head.heads[task].embed(features)[1] for task in CHANNELS}
    for task, other in (('semseg', 'depth'), ('depth', 'semseg')):
        second, (initial, final) = head.final_decoders[task], found[task]
        torch.testing.assert_close(initial, head.heads[task](features))
        seen = embeddings[task] + head.gates[other](embeddings[other])
        expected = second(seen) if final_decoder == 'simple' else second.predictor(second.decoder[0](seen, features[1]))
        torch.testing.assert_close(final, expected)
        assert initial.shape == final.shape == (2, CHANNELS[task], 25, 33)


@pytest.mark.parametrize('size', [(25, 33), (1, 1), (7, 4)])
def test_deep_decoder_quadruples_the_resolution(size):
    torch.manual_seed(0)
    decoder = DeepDecoder(16, 5).eval()
    embedding = torch.randn(2, 16, *size)
    found = decoder(embedding)
    assert found.shape == (2, 5, 4 * size[0], 4 * size[1])
    assert [conv.conv.weight.shape[:2] for conv in decoder.reduce] == [(8, 16), (4, 8)]
    for conv in decoder.reduce:
        embedding = F.relu(F.conv2d(embedding, conv.conv.weight, padding=1) / (1 + 1e-5) ** 0.5)
        embedding = F.interpolate(embedding, size=[2 * length for length in embedding.shape[-2:]], mode='bilinear')
    expected = F.conv2d(embedding, decoder.predictor.weight, decoder.predictor.bias, padding=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('final_decoder', ['simple', 'deep'])
def test_both_predictions_are_charged_and_logged(final_decoder):
    """At 33x47 the deep decoder's map, 36x48, is larger than the labels."""
    model = build_model(final_decoder=final_decoder)
    batch = model.data_preprocessor(make_batch((33, 47)))
    initial_and_final = model.decode(batch['inputs'])
    total, logged = model.parse_losses(model(**batch, mode='loss'))
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
    total.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_the_final_prediction_counts():
    model = build_model().eval()
    images = torch.randn(2, 3, 33, 47)
    with torch.no_grad():
        final = model.decode(images)['semseg'][1]
        expected = F.interpolate(final, size=(33, 47), mode='bilinear')
        assert torch.equal(model(images)['semseg'], expected)
        assert torch.equal(model.predict_arrays(images)['semseg'].long(), expected.argmax(1))
