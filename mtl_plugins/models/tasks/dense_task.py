"""Base class of tasks, which give a prediction map its meaning and its loss."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.losses.library_losses import build_losses

# Upsampled numbers that exist at once on a GPU: half a gigabyte.
ELEMENTS_AT_ONCE_GPU = 2**27


class DenseTask(BaseModule):
    """One value or class per pixel, predicted at a coarser grid.

    A new task is a subclass in a new file, registered, with the attributes below, the abstract methods, and either a
    ``default_loss`` and, if need be, :meth:`compare`, or a ``loss_name`` and :meth:`loss`.

    Args:
        loss: Config of a loss, or of several, which are added; ``default_loss`` by default.
        label: Name of the label of the data that it learns; None is the task's own name in the model.

    Attributes:
        out_channels: Channels of the prediction that the decode head gives this task.
        default_loss: Name of a registered loss; None for a task that computes its own.
        loss_name: Key of the loss in the log, starting with ``loss_``; of the first one, where there are several.
        mergings: Ways in which test-time views of an image can be merged; the first one is the default.
    """

    out_channels: int
    default_loss: str | None = None
    loss_name: str
    mergings: tuple[str, ...]

    def __init__(self, *, loss: dict | Sequence[dict] | None = None, label: str | None = None) -> None:
        super().__init__()
        self.label = label
        if self.default_loss:
            self.criteria = build_losses(loss or dict(type=self.default_loss), self.build_library_loss)
            self.loss_name = self.loss_names()[0]

    def build_library_loss(self, config: dict) -> nn.Module:
        """Build a loss of another library, with a ``name``; refused by default."""
        raise ArgumentError(f'`loss` of {type(self).__name__} should be a loss of this package. Found {config["type"]!r}.')

    def check_head(self, head: nn.Module) -> None:
        """Raise an ArgumentError on a decode head whose output this task would misread."""

    def compare(self, criterion: nn.Module, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one loss of a prediction ``(B, out_channels, h, w)`` against the label map ``(B, H, W)``."""
        return criterion(prediction, target)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the sum of the losses of a prediction ``(B, out_channels, h, w)`` against the label map ``(B, H, W)``."""
        return sum(self.loss_terms(prediction, target).values())

    def loss_terms(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the losses of :meth:`loss` by their keys in the log."""
        if not self.default_loss:
            return {self.loss_name: self.loss(prediction, target)}
        return {f'loss_{criterion.name}': self.compare(criterion, prediction, target) for criterion in self.criteria}

    def loss_names(self) -> list[str]:
        """Return the keys of :meth:`loss_terms`."""
        return [f'loss_{criterion.name}' for criterion in self.criteria] if self.default_loss else [self.loss_name]

    def valid_mask(self, target: Tensor) -> Tensor:
        """Return which pixels of a target count: bool ``(B, H, W)``; all by default."""
        return torch.ones(target.shape, dtype=torch.bool, device=target.device)

    def distributions(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return quantities of which a training draws histograms, ``(B, H, W)`` each, by name; none by default."""
        return {}

    @abstractmethod
    def predict(self, prediction: Tensor, size: tuple[int, int]) -> Tensor:
        """Return classes, metres, ..., ``(B, *size)`` or ``(B, C, *size)``, of one prediction ``(B, out_channels, h, w)``."""

    @abstractmethod
    def view_values(self, output: Tensor, merging: str, zoom: float) -> Tensor:
        """Return what is merged of a test-time view, a new float32 tensor, of one image's upsampled float32 prediction.

        Args:
            output: ``(out_channels, H, W)``.
            merging: One of ``mergings``.
            zoom: How many times as large as the image the view was, where that should count; else 1.
        """

    @abstractmethod
    def merged_view(self, total: Tensor, num_views: int, merging: str) -> Tensor:
        """Return classes, metres, ..., ``(H, W)`` or ``(C, H, W)``, of the merged values of all views of an image."""

    def margin(self, output: Tensor) -> Tensor | None:
        """Return by how much one of the numbers that decide a pixel's class must change for another class, as ``(B, H, W)``.

        Where that is no more than rounding, two ways to compute the same function may differ. ``output`` are upsampled float32
        predictions ``(B, out_channels, H, W)``. None, the default, of a task that decides nothing.
        """
        return None

    def mirror(self, prediction: Tensor) -> Tensor:
        """Return the prediction ``(B, out_channels, h, w)`` for an image, of that for the image mirrored left to right."""
        return prediction.flip(-1)

    @staticmethod
    def add_view(total: Tensor, values: Tensor, merging: str) -> Tensor:
        """Return ``total`` with one more view, in place: the larger one for ``'max'``, the sum otherwise.

        For ``'median'``, whose values are ``(1, H, W)``, it is a new tensor of all views.
        """
        if merging == 'median':
            return torch.cat([total, values])
        return torch.maximum(total, values, out=total) if merging == 'max' else total.add_(values)

    def losses(self, predictions: Sequence[Tensor], target: Tensor | None) -> dict[str, Tensor]:
        """Return the losses by name, each the mean over all predictions (deep supervision), and what is only logged.

        With several predictions, the loss of each is logged as ``<name>_initial`` ... ``<name>_final``, where ``<name>`` is the
        key without ``loss_``. Without a label the loss is exactly 0, with a gradient for every parameter.
        """
        if target is None:
            zero = sum((prediction * 0).sum(dtype=torch.float32) for prediction in predictions)
            return dict.fromkeys(self.loss_names(), zero)
        terms = [self.loss_terms(prediction, target) for prediction in predictions]
        named = {key: sum(term[key] for term in terms) / len(terms) for key in terms[0]}
        if len(terms) > 1:
            places = ['initial', *(f'intermediate{i}' for i in range(1, len(terms) - 1)), 'final']
            for key in terms[0]:
                name = key.removeprefix('loss_')
                named.update({f'{name}_{place}': term[key].detach() for place, term in zip(places, terms, strict=True)})
        return named

    def images_at_once(self, prediction: Tensor, size: tuple[int, int]) -> int:
        """Number of images to upsample to ``size`` together: one on a CPU, whose cache it stays in, many on a GPU."""
        if prediction.device.type == 'cpu':
            return 1
        return max(ELEMENTS_AT_ONCE_GPU // (prediction.shape[1] * size[0] * size[1]), 1)

    @staticmethod
    def upsample(prediction: Tensor, size: tuple[int, int]) -> Tensor:
        """Return ``(B, C, h, w)`` as ``(B, C, *size)``: bilinear, corners not aligned; the identity at the same size."""
        return F.interpolate(prediction, size=size, mode='bilinear', align_corners=False)
