"""The models and training steps of the contenders; ours are joint configs as they are."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from mmengine.config import Config
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.results import ROOT
from benchmarks.scenes import SceneArrays
from mtl_plugins.config.load import load_config
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor
from mtl_plugins.registry import MODELS

LEARNING_RATE = 1e-4
CONFIG = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
# Separable as segmentation-models-pytorch's, and with as many convolutions in the decoder; and of half the width.
SEPARABLE_CONFIG = 'configs/joint/joint_r18-d16_1xb16-32e_separable-1conv_miniscapes-256x256.py'
NARROW_CONFIG = 'configs/joint/joint_r18-d16_1xb16-32e_separable-128_miniscapes-256x256.py'


def joint_config(data_root: str | None = None, **options: object) -> Config:
    """The config with overrides; ``__`` stands for a dot."""
    return load_config(str(ROOT / CONFIG), {key.replace('__', '.'): value for key, value in options.items()}, data_root)


def build_joint_model(config: str = CONFIG) -> MultiTaskSegmentor:
    """ResNet-18, output stride 16, random weights."""
    return MODELS.build(load_config(str(ROOT / config)).model)


@dataclass(frozen=True)
class Batch:
    """Normalised ``images (B, 3, H, W)``, ``labels (B, H, W)`` uint8 and ``depths (B, H, W)`` metres, on the device."""

    images: Tensor
    labels: Tensor
    depths: Tensor

    @classmethod
    def from_scenes(cls, scenes: SceneArrays, crop: int | tuple[int, int], device: str) -> 'Batch':
        """The lower middle of each scene."""
        height, width = (crop, crop) if isinstance(crop, int) else crop
        left = (scenes.labels.shape[2] - width) // 2
        area = (slice(None), slice(-height, None), slice(left, left + width))
        images = torch.from_numpy(scenes.images[area]).to(device).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (peers.MEAN, peers.STD))
        labels, depths = (torch.from_numpy(maps[area].copy()).to(device) for maps in (scenes.labels, scenes.depths))
        return cls((images - mean) / std, labels, depths)


class TrainingStep(ABC):
    """A model with Adam; calling it makes one step.

    Args:
        model: Goes to the batch's device.
        batch: The same for every step.
        memory_format: Of weights and images.
        bf16: Forward under bfloat16 autocast.
        adam: Further arguments of Adam.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        memory_format: torch.memory_format,
        bf16: bool = False,
        adam: dict | None = None,
    ) -> None:
        self.device = batch.images.device.type
        self.model = model.to(batch.images.device, memory_format=memory_format).train()
        self.images = batch.images.contiguous(memory_format=memory_format)
        self.bf16 = bf16
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, **(adam or {}))

    @abstractmethod
    def loss(self) -> Tensor:
        """Forward pass and losses."""

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            loss = self.loss()
        loss.backward()
        self.optimizer.step()

    def saved_mib(self) -> float:
        """MiB of the distinct storages that autograd keeps for the backward pass, parameters left out."""
        # Held here, so that no freed address is counted as one that was seen before.
        storages = {}
        parameters = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                storages[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                self.loss()
        return sum(storage.nbytes() for storage in storages.values()) / 2**20


class SegmentorStep(TrainingStep):
    """This package: the tasks of any of its models, by default labels and depth of the joint one."""

    def __init__(self, batch: Batch, model: nn.Module | None = None, **options) -> None:
        model = build_joint_model() if model is None else model
        super().__init__(model, batch, model.memory_format, **options)
        self.targets = dict(semseg=batch.labels, depth=batch.depths)

    def loss(self) -> Tensor:
        return self.model.parse_losses(self.model(self.images, self.targets, mode='loss'))[0]


class SmpStep(TrainingStep):
    """segmentation-models-pytorch: labels and depth."""

    def __init__(self, batch: Batch, memory_format: torch.memory_format = torch.contiguous_format, **options) -> None:
        super().__init__(peers.build_smp_model(), batch, memory_format, **options)
        self.labels, self.depths = batch.labels.long(), batch.depths

    def loss(self) -> Tensor:
        return peers.smp_loss(self.model(self.images), self.labels, self.depths)


class MMSegStep(TrainingStep):
    """mmseg: labels only."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(peers.build_mmseg_model(), batch, torch.contiguous_format)
        self.samples = peers.build_mmseg_samples(batch.labels.long())

    def loss(self) -> Tensor:
        return self.model.parse_losses(self.model(self.images, self.samples, mode='loss'))[0]
