"""Small models and batches for the tests of this folder."""

import torch

from mtl_plugins.registry import MODELS

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
TASKS = dict(semseg=dict(type='SemSegTask', num_classes=19), depth=dict(type='DepthTask'))


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


def make_batch(size: tuple[int, int], *, batch: int = 2, tasks=('semseg', 'depth'), seed: int = 0) -> dict:
    """A batch as the loader's collate function gives it, with ignored labels and invalid depth."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size

    def codes(low, high, *shape):
        return torch.randint(low, high, (batch, height, width, *shape), dtype=torch.uint8, generator=generator)

    targets = dict(semseg=codes(0, 19), depth=codes(0, 256))
    targets['semseg'][:, :3] = 255
    return dict(
        inputs=codes(0, 256, 3),
        targets={task: targets[task] for task in tasks},
        depth_scale=torch.ones(batch),
        sample_idx=torch.arange(batch) + 7,
    )
