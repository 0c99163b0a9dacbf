"""Sizes and operations of models, counted by hand."""

import torch
import torch.nn.functional as F
from torch import nn

from mtl_plugins.config.load import load_config
from mtl_plugins.models.utils.model_stats import count_flops, parameters_by_kind
from mtl_plugins.registry import MODELS
from tests.tiny import EPOCH_CONFIG


class OneOfEach(nn.Module):
    """A convolution, a matrix product and fused attention over a learned token."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8, 16)
        self.token = nn.Parameter(torch.zeros(1, 5, 16))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.linear(self.conv(images).flatten(2).transpose(1, 2))
        return F.scaled_dot_product_attention(self.token.expand(len(tokens), -1, -1), tokens, tokens)


def test_operations_are_those_counted_by_hand_and_the_model_stays_as_it_is():
    model = OneOfEach().train()
    pixels = 6 * 10
    by_hand = 2 * pixels * 8 * 3 * 9 + 2 * pixels * 8 * 16 + 2 * (2 * 5 * pixels * 16)
    assert count_flops(model, torch.zeros(1, 3, 6, 10)) == by_hand
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_parts_of_the_joint_model_are_those_of_its_layers():
    model = MODELS.build(load_config(str(EPOCH_CONFIG)).model)
    convs = 304 * 256 * 9 + 256 * 256 * 9 + 2 * 256
    decoder = 64 * 48 + 48 + convs + 2 * 2 * 256
    predictor = 20 * 256 + 20
    resnet18 = 11_689_512 - 513_000  # torchvision's documented number, without its classifier
    kinds = parameters_by_kind(model)
    assert (kinds['encoder'], kinds['decoder'], kinds['rest'], kinds['transformer']) == (resnet18, decoder, predictor, 0)
    assert sum(kinds.values()) == sum(parameter.numel() for parameter in model.parameters())
