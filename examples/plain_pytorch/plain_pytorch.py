"""Backbone, heads and losses of this package in your own PyTorch loop: no config, no registry, no runner.

    mtl data make data/synthetic --train 64 --val 0 --test 0 --size 128x256
    python examples/plain_pytorch/plain_pytorch.py data/synthetic --steps 50

The folder is any in the MiniScapes format: docs/data_format.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mtl_plugins.labels.depth_codec import decode_depth
from mtl_plugins.models.backbones.resnet import DilatedResNet
from mtl_plugins.models.decode_heads.bins_depth_heads import AdaptiveDepthHead
from mtl_plugins.models.decode_heads.deeplabv3plus_head import DeepLabV3PlusHead
from mtl_plugins.models.losses import SILogLoss, UpsampledCrossEntropyLoss

NUM_CLASSES = 19
MEAN, STD = torch.tensor([123.7, 116.3, 103.5]), torch.tensor([58.4, 57.1, 57.4])


class Scenes(Dataset):
    """Images ``(3, H, W)`` normalised, classes ``(H, W)`` with 255 for unknown, metres ``(H, W)`` with 0 for unknown."""

    def __init__(self, folder: Path) -> None:
        self.images = sorted((folder / 'rgb').glob('*.jpg'))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image = self.images[index]
        labels = [np.array(Image.open(image.parents[1] / kind / f'{image.stem}.png')) for kind in ('semseg', 'depth')]
        pixels = torch.from_numpy(np.array(Image.open(image))).float()
        classes, metres = torch.from_numpy(labels[0]).long(), torch.from_numpy(decode_depth(labels[1])).float()
        return ((pixels - MEAN) / STD).permute(2, 0, 1), classes, metres


class Network(nn.Module):
    """A shared ResNet-18, a DeepLabV3+ head for the classes, a head with adaptive bins for the depth.

    Maps images ``(B, 3, H, W)`` to logits ``(B, classes, H/4, W/4)`` and metres ``(B, 1, H/4, W/4)``.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.backbone = DilatedResNet(depth=18, output_stride=16)
        widths = self.backbone.out_channels
        self.semseg = DeepLabV3PlusHead(in_channels=widths, out_channels=NUM_CLASSES, channels=channels)
        self.depth = AdaptiveDepthHead(
            # A config is how a head takes another one.
            head=dict(type='DeepLabV3PlusHead', rates=None),
            in_channels=widths,
            out_channels=1,
            channels=channels,
            num_bins=64,
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        return self.semseg(features), self.depth(features)


def train(folder: Path, steps: int, batch_size: int = 4, lr: float = 1e-3) -> Iterator[dict[str, float]]:
    """Train on a folder with ``rgb``, ``semseg`` and ``depth``, and yield the losses of each step."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    loader = DataLoader(Scenes(folder), batch_size, shuffle=True, drop_last=True)
    network = Network().to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    # The first upsamples the logits itself, band by band, so that they never exist at full size.
    cross_entropy, silog = UpsampledCrossEntropyLoss(), SILogLoss()
    step = 0
    while step < steps:
        for batch in loader:
            images, classes, metres = (each.to(device) for each in batch)
            logits, depth = network(images)
            depth = F.interpolate(depth, metres.shape[-2:], mode='bilinear').squeeze(1)
            losses = dict(semseg=cross_entropy(logits, classes), depth=silog(depth, metres, metres > 0))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            yield {name: loss.item() for name, loss in losses.items()}
            step += 1
            if step == steps:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path, help='folder with train/rgb, train/semseg and train/depth')
    parser.add_argument('--steps', type=int, default=50)
    parser.add_argument('--batch-size', type=int, default=4)
    args = parser.parse_args()
    for step, losses in enumerate(train(args.data / 'train', args.steps, args.batch_size), 1):
        if step == 1 or step % 10 == 0:
            print(f'step {step}: {", ".join(f"{name} {value:.3f}" for name, value in losses.items())}')


if __name__ == '__main__':
    main()
