"""What a model predicts while a loop runs it, without running it again."""

from collections.abc import Callable

import torch
from torch import Tensor

from mtl_plugins.engine.state import unwrap
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor

Predictions = dict[str, list[Tensor]]
Targets = dict[str, Tensor]


class PredictionTap:
    """Hands the decode head's predictions and the targets of every batch that passes through a model to a function.

    For a :class:`MultiTaskSegmentor` with its own losses, alone or wrapped; see :meth:`fits`.

    Args:
        model: The model.
        receive: Called after each ``forward`` with ``{task: [prediction, ...]}`` and the targets by label.
    """

    def __init__(self, model: torch.nn.Module, receive: Callable[[Predictions, Targets], None]) -> None:
        model = unwrap(model)
        self._receive = receive
        self._predictions: Predictions = {}
        self._handles = [
            model.decode_head.register_forward_hook(self._keep),
            model.register_forward_hook(self._pass_on, with_kwargs=True),
        ]

    @staticmethod
    def fits(model: torch.nn.Module) -> bool:
        """Whether the predictions of the model are what its losses compare with the targets."""
        model = unwrap(model)
        return isinstance(model, MultiTaskSegmentor) and type(model).loss is MultiTaskSegmentor.loss

    def _keep(self, head: torch.nn.Module, arguments: tuple, predictions: Predictions) -> None:
        self._predictions = predictions

    def _pass_on(self, model: torch.nn.Module, arguments: tuple, keywords: dict, outputs: object) -> None:
        self._receive(self._predictions, keywords.get('targets') or {})
        self._predictions = {}

    def remove(self) -> None:
        """See nothing more."""
        for handle in self._handles:
            handle.remove()
