import pytest
import torch
from torch import nn

from mtl_plugins.models.utils.inference import prepare_for_inference
from tests.models.builders import build_segmentor, make_batch


@pytest.fixture(scope='module', params=['JointHead', 'BranchedHead'])
def trained(request):
    """A model whose normalisation has seen data: fresh running statistics would make folding trivial."""
    torch.manual_seed(0)
    model = build_segmentor(head=request.param, channels=16)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for seed in range(2):
        losses = model(**model.data_preprocessor(make_batch((48, 64), seed=seed)), mode='loss')
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope='module')
def inputs(trained):
    smooth = nn.functional.interpolate(torch.rand(2, 3, 6, 8) * 255, size=(97, 131), mode='bicubic').clamp(0, 255)
    return trained.data_preprocessor(dict(inputs=smooth.byte().permute(0, 2, 3, 1)))['inputs']


@torch.no_grad()
def test_float32_predictions_are_the_models(trained, inputs):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    fast = prepare_for_inference(trained)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    expected, found = trained.predict_arrays(inputs), fast.predict_arrays(inputs)
    torch.testing.assert_close(found['depth'], expected['depth'], rtol=1e-4, atol=0)
    best, second = trained(inputs)['semseg'].topk(2, dim=1).values.unbind(1)
    tied = best - second < 1e-4
    assert tied.float().mean() < 0.01 and ((found['semseg'] == expected['semseg']) | tied).all()
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert trained.backbone.bn1.weight.requires_grad


@torch.no_grad()
def test_bfloat16_predictions_agree(trained, inputs):
    expected, found = trained.predict_arrays(inputs), prepare_for_inference(trained, dtype=torch.bfloat16).predict_arrays(inputs)
    assert found['semseg'].dtype == torch.uint8 and found['depth'].dtype == torch.float32
    # Near-ties are common in a model of two training steps.
    assert (found['semseg'] == expected['semseg']).float().mean() >= 0.95
    assert ((found['depth'] / expected['depth']).log().abs() < 0.05).float().mean() >= 0.99


def test_bad_type(trained):
    with pytest.raises(ValueError, match=r'`dtype` should be torch.float32, torch.bfloat16 or torch.float16'):
        prepare_for_inference(trained, dtype=torch.float64)


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
