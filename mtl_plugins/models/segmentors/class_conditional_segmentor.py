"""The model that answers where a given class is."""

import torch
from mmengine.model import ModuleDict
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor
from mtl_plugins.models.tasks.class_mask import ClassMaskTask
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class ClassConditionalSegmentor(MultiTaskSegmentor):
    """A :class:`MultiTaskSegmentor` whose head takes the class that is asked for, such as :class:`ClassAttentionHead`.

    In training each image is asked for one class, which the task samples, and learns its binary mask. Otherwise every image is
    asked for all classes, with one pass through the encoder, and the task merges the masks into a label map: predictions,
    evaluation and test-time augmentation are those of the parent.

    Args are those of :class:`MultiTaskSegmentor`; ``tasks`` holds one, a :class:`ClassMaskTask`, and there is no
    ``auxiliary_head``.

    Raises:
        ArgumentError: If ``tasks`` holds something else, or there is an ``auxiliary_head``.
    """

    def build_network(self, backbone: dict, neck: dict | None, decode_head: dict, auxiliary_head: object) -> None:
        """As in :class:`MultiTaskSegmentor`.

        Raises:
            ArgumentError: If there is an auxiliary head, which is not asked for classes.
        """
        if auxiliary_head:
            raise ArgumentError(f'`auxiliary_head` should be None for a model that is asked for classes. Found {auxiliary_head}.')
        super().build_network(backbone, neck, decode_head, None)

    def build_tasks(self, tasks: dict[str, dict]) -> ModuleDict:
        """The one task, by its name.

        Raises:
            ArgumentError: If it is no :class:`ClassMaskTask`, or not the only one.
        """
        built = super().build_tasks(tasks)
        if [type(task) for task in built.values()] != [ClassMaskTask]:
            found = ', '.join(type(task).__name__ for task in built.values())
            raise ArgumentError(f'`tasks` should hold one ClassMaskTask. Found {found}.')
        return built

    def loss(self, inputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of the mask of one class per image; 0 without labels."""
        ((name, task),) = self.tasks.items()
        label = self.labels[name]
        labels = targets.get(label)
        if labels is None:
            classes, masks = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device), {}
        else:
            classes = task.sample_classes(labels)
            masks = {label: task.mask_of(labels, classes)}
        return self.losses_of(self.decode_head(self.encode(inputs), classes[:, None]), masks)

    @torch.no_grad()
    def attend(self, inputs: Tensor) -> Tensor:
        """The attention of every class over normalised images: ``(B, num_classes, h, w)``, on the grid of the features.

        It sums to 1 over that grid, which covers the padding of the inputs too.
        """
        return self.decode_head.attend(self.encode(inputs)).float()
