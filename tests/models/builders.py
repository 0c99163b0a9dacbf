"""Small models and batches for the tests of this folder."""

import torch
from torch import nn

from mtl_plugins.registry import MODELS
from tests.tiny import TinyBackbone

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# Of the pyramid that `make_pyramid` gives.
WIDTHS = (6, 8, 10, 12, 16)
TASKS = dict(semseg=dict(type='SemSegTask', num_classes=19), depth=dict(type='DepthTask'))
NARROW = dict(type='DeepLabV3PlusHead', channels=8, rates=(1, 2), skip_channels=4, num_convs=1)
BLOCKS = dict(channels=8, num_layers=1, num_heads=2, expansion=2)
MIT = dict(type='mmseg.MixVisionTransformer', embed_dims=8, num_heads=[1, 2, 2, 4], num_layers=[1, 1, 1, 1])
PLAIN = dict(type='mmseg.VisionTransformer', img_size=64, embed_dims=24, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3))
SEGFORMER = dict(type='mmseg.SegformerHead', channels=16)
BINS = dict(type='AdaptiveDepthHead', num_bins=16, head=NARROW, **BLOCKS)


def build_segmentor(*, head: str = 'JointHead', channels: int = 16, output_stride: int = 16, **changes):
    """The joint model on ResNet-18, with a narrow decoder unless asked otherwise."""
    config = dict(
        type='MultiTaskSegmentor',
        data_preprocessor=dict(type='MultiTaskDataPreprocessor', mean=MEAN, std=STD),
        backbone=dict(type='DilatedResNet', depth=18, output_stride=output_stride),
        decode_head=dict(type=head, head=dict(type='DeepLabV3PlusHead', channels=channels)),
        tasks=TASKS,
    )
    return MODELS.build({**config, **changes})


def build_dino(backbone: dict | None = None, **changes):
    """DINO with 24 outputs, always with the same weights."""
    torch.manual_seed(0)
    config = dict(
        type='DINO',
        backbone=backbone or dict(type=TinyBackbone),
        projection_head=dict(type='DINOHead', hidden_channels=16, bottleneck_channels=12, out_channels=24),
        data_preprocessor=dict(type='MultiViewDataPreprocessor', mean=MEAN, std=STD),
    )
    return MODELS.build({**config, **changes})


def make_batch(size: tuple[int, int], *, batch: int = 2, tasks=('semseg', 'depth'), seed: int = 0, num_classes: int = 19) -> dict:
    """A batch as the loader's collate function gives it, with ignored labels and invalid depth."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size

    def codes(low, high, *shape):
        return torch.randint(low, high, (batch, height, width, *shape), dtype=torch.uint8, generator=generator)

    targets = dict(semseg=codes(0, num_classes), depth=codes(0, 256))
    targets['semseg'][:, :3] = 255
    return dict(
        inputs=codes(0, 256, 3),
        targets={task: targets[task] for task in tasks},
        length_scale=torch.ones(batch),
        sample_idx=torch.arange(batch) + 7,
    )


def make_pyramid(
    size: tuple[int, int] = (97, 131), *, batch: int = 2, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple:
    """Random maps at the strides 2, 4, 8, 16 and 16 of an image of that size, with the widths ``WIDTHS``."""
    generator = torch.Generator().manual_seed(0)
    sizes = [[-(-length // stride) for length in size] for stride in (2, 4, 8, 16, 16)]
    return tuple(
        torch.randn(batch, width, *map_size, generator=generator, dtype=dtype)
        for width, map_size in zip(WIDTHS, sizes, strict=True)
    )


def build_head(**config):
    """A head of the config, on ``make_pyramid``, always with the same weights."""
    torch.manual_seed(0)
    return MODELS.build({'in_channels': WIDTHS, **config})


@torch.no_grad()
def as_if_trained(module: nn.Module) -> nn.Module:
    """Evaluation mode; a fresh normalisation lets everything pass as it is."""
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(std=0.1)
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return module.eval()


def value_and_gradients(function, *tensors):
    """Return the value of a function of the tensors, and the gradient of a weighted sum of it for each of them."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    result = function(*leaves)
    weight = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view(result.shape)
    return [result.detach(), *torch.autograd.grad((result * weight).sum(), leaves)]
