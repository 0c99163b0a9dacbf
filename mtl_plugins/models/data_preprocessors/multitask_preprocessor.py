"""From the loader's byte tensors to what the model computes with, once per batch, on the device."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from mtl_plugins.registry import MODELS


def pad_to_multiple(maps: Tensor, divisor: int, value: int) -> Tensor:
    """Pad axes 1 and 2 of ``(B, H, W, ...)`` at their ends to multiples of ``divisor``."""
    # Written so that a graph for images of any size knows the padded one as a multiple.
    bottom, right = ((length + divisor - 1) // divisor * divisor - length for length in maps.shape[1:3])
    # A graph for images of any size cannot ask whether this one needs it.
    if not torch.compiler.is_compiling() and not bottom and not right:
        return maps
    return F.pad(maps, (*(0, 0) * (maps.ndim - 3), 0, right, 0, bottom), value=value)


@MODELS.register_module()
class MultiTaskDataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device, normalises the image, turns stored label maps into targets.

    In: ``inputs`` uint8 ``(B, H, W, 3)`` RGB; ``targets`` with any of the labels, stored maps ``(B, H, W)`` or ``(B, H, W, C)``;
    ``length_scale`` ``(B,)``, a factor on metres, ``sample_idx`` and ``metainfo``, all optional. Out: ``inputs`` float32 ``(B, 3,
    H, W)`` in the channels-last memory format, ``targets`` as :meth:`LabelKind.to_target` gives them, and ``sample_idx`` and
    ``metainfo`` as they came, if they came.

    Args:
        mean: Per channel, on 0..255.
        std: Per channel, on 0..255.
        size_divisor: Pad right and bottom to multiples of it, the image with 0 before normalisation (black), labels with what
            does not count; None pads nothing.
        labels: Configs of the labels by name, those of the data set; MiniScapes' by default. ``load_config`` fills them in.

    Raises:
        ArgumentError: If ``mean`` or ``std`` has not three entries, or on a batch whose images are not ``(B, H, W, 3)``.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size_divisor: int | None = None,
        labels: Mapping[str, Mapping] | None = None,
    ) -> None:
        super().__init__(non_blocking=True)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ArgumentError(f'`mean` and `std` should have three entries each, std > 0. Found {mean} and {std}.')
        self.size_divisor = size_divisor
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.label_configs = MINISCAPES_LABELS if labels is None else labels
        self.labels = build_labels(self.label_configs)
        for name, kind in self.labels.items():
            table = kind.table()
            self.register_buffer(f'{name}_table', None if table is None else torch.from_numpy(table.copy()), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        if not isinstance(data.get('inputs'), Tensor):
            raise ArgumentError(
                "`collate_fn` of the data loader should be dict(type='multitask_collate'), which stacks the images. "
                f'Found a {type(data.get("inputs")).__name__} of them.'
            )
        data = self.cast_data(data)
        targets = data.get('targets') or {}
        targets = {name: self.to_target(name, stored, data.get('length_scale')) for name, stored in targets.items()}
        others = {key: data[key] for key in ('sample_idx', 'metainfo') if key in data}
        return dict(inputs=self.to_inputs(data['inputs']), targets=targets, **others)

    def to_inputs(self, images: Tensor) -> Tensor:
        """Return images ``(B, H, W, 3)`` uint8 padded and normalised, ``(B, 3, H, W)`` float32; a part of exported models."""
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ArgumentError(f'`inputs` should have the shape (B, H, W, 3). Found {tuple(images.shape)}.')
        if self.size_divisor is not None:
            images = pad_to_multiple(images, self.size_divisor, 0)
        if torch.compiler.is_compiling():
            return (images.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        # Broadcasting along an innermost axis of 3 is not vectorised on a CPU (5 times slower); along whole rows it is.
        mean, std = (values.flatten().repeat(images.shape[2]) for values in (self.mean, self.std))
        rows = images.flatten(2).to(torch.float32, copy=True).sub_(mean).div_(std)
        # The permuted view of (B, H, W, 3) is what torch calls channels-last: the conversion to float is the only copy.
        return rows.view(images.shape).permute(0, 3, 1, 2)

    def to_target(self, name: str, stored: Tensor, length_scale: Tensor | None) -> Tensor:
        if name not in self.labels:
            raise ArgumentError(
                f'`labels` of the data preprocessor should name {name!r}, as the batch does. Found {list(self.labels)}.'
            )
        kind = self.labels[name]
        if self.size_divisor is not None:
            stored = pad_to_multiple(stored, self.size_divisor, kind.invalid)
        return kind.to_target(stored, getattr(self, f'{name}_table'), length_scale)
