"""The models and training steps of the contenders; ours are joint configs as they are."""

from collections.abc import Callable
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
    """Return the config with overrides; ``__`` stands for a dot."""
    return load_config(str(ROOT / CONFIG), {key.replace('__', '.'): value for key, value in options.items()}, data_root)


def build_joint_model(config: str = CONFIG) -> MultiTaskSegmentor:
    """Build a model on ResNet-18, output stride 16, with random weights."""
    return MODELS.build(load_config(str(ROOT / config)).model)


@dataclass(frozen=True)
class Batch:
    """Normalised ``images (B, 3, H, W)``, ``labels (B, H, W)`` uint8 and ``depths (B, H, W)`` metres, on the device."""

    images: Tensor
    labels: Tensor
    depths: Tensor

    @classmethod
    def from_scenes(cls, scenes: SceneArrays, crop: tuple[int, int], device: str) -> 'Batch':
        """Cut out the lower middle of each scene."""
        height, width = crop
        left = (scenes.labels.shape[2] - width) // 2
        area = (slice(None), slice(-height, None), slice(left, left + width))
        labels, depths = (torch.from_numpy(maps[area].copy()).to(device) for maps in (scenes.labels, scenes.depths))
        return cls(peers.normalise(torch.from_numpy(scenes.images[area]).to(device)), labels, depths)


class TrainingStep:
    """A model with Adam on the device of a batch; calling it makes one step on this batch.

    ``loss`` is that of the model on images, ``memory_format`` that of weights and images; ``bf16`` runs the forward pass under
    autocast, ``adam`` has further arguments.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        loss: Callable[[nn.Module, Tensor], Tensor],
        memory_format: torch.memory_format = torch.contiguous_format,
        bf16: bool = False,
        adam: dict | None = None,
    ) -> None:
        self.model = model.to(batch.images.device, memory_format=memory_format).train()
        self.images = batch.images.contiguous(memory_format=memory_format)
        self._loss, self.bf16 = loss, bf16
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, **(adam or {}))

    def loss(self) -> Tensor:
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16):
            return self._loss(self.model, self.images)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def saved_mib(self) -> float:
        """Return the MiB of the distinct storages that autograd keeps for the backward pass, without parameters."""
        # Held here, so that no freed address is counted as one that was seen before.
        storages = {}
        parameters = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                storages[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self.loss()
        return sum(storage.nbytes() for storage in storages.values()) / 2**20


def our_step(batch: Batch, model: nn.Module | None = None, **options) -> TrainingStep:
    """Train any model of this package on labels and depth, the joint one by default."""
    model = build_joint_model() if model is None else model
    targets = dict(semseg=batch.labels, depth=batch.depths)

    def loss(model: nn.Module, images: Tensor) -> Tensor:
        return model.parse_losses(model(images, targets, mode='loss'))[0]

    return TrainingStep(model, batch, loss, model.memory_format, **options)


def smp_step(batch: Batch, **options) -> TrainingStep:
    """Train segmentation-models-pytorch's model on labels and depth."""
    labels = batch.labels.long()
    return TrainingStep(
        peers.build_smp_model(), batch, lambda model, images: peers.smp_loss(model(images), labels, batch.depths), **options
    )


def mmseg_step(batch: Batch) -> TrainingStep:
    """Train mmseg's model on labels only."""
    samples = peers.build_mmseg_samples(batch.labels.long())

    def loss(model: nn.Module, images: Tensor) -> Tensor:
        return model.parse_losses(model(images, samples, mode='loss'))[0]

    return TrainingStep(peers.build_mmseg_model(), batch, loss)
