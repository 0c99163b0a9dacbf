"""``torch.compile``, with and without CUDA graphs, changes no result."""

import pytest
import torch

from mtl_plugins.models.utils.inference import prepare_for_inference
from tests.cuda.systems import assert_predictions_agree, build_system, pair, predict, sgd, train_steps

pytestmark = pytest.mark.cuda
SYSTEM = 'joint_r18-d16_1xb16-32e'


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def model(data_root):
    return build_system(SYSTEM, data_root)


def test_compiled_training_takes_the_same_steps(model, device):
    plain, compiled = pair(model.to(device), device)
    compiled.compile_network()
    expected, found = train_steps(plain, sgd(plain), steps=3), train_steps(compiled, sgd(compiled), steps=3)
    for log, other in zip(expected, found, strict=True):
        assert other == pytest.approx(log, rel=1e-3, abs=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert_predictions_agree(predict(compiled), predict(plain), share=0.99, relative=2e-3)


@pytest.mark.parametrize('mode', ['default', 'reduce-overhead'])
def test_compiled_inference_predicts_the_same(model, device, mode):
    model.to(device)
    train_steps(model, sgd(model))
    compiled = prepare_for_inference(model, compile=dict(mode=mode))
    for seed in range(3):
        # From the third call on, a graph is replayed.
        assert_predictions_agree(predict(compiled, seed), predict(model, seed), share=0.99, relative=2e-3)
