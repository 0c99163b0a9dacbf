"""Predictions of a model while a loop runs it, and the losses of the validation split from them."""

from collections.abc import Callable

import numpy as np
import torch
from mmengine.dist import all_gather_object
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mtl_plugins.engine.state import unwrap
from mtl_plugins.models.class_attention import ClassConditionalSegmentor
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor

Predictions = dict[str, list[Tensor]]
Targets = dict[str, Tensor]


def compares_predictions(model: torch.nn.Module) -> bool:
    """Return True if the losses of the model compare the predictions of its head with the targets."""
    model = unwrap(model)
    losses = (MultiTaskSegmentor.loss, ClassConditionalSegmentor.loss)
    return isinstance(model, MultiTaskSegmentor) and type(model).loss in losses


def tap_predictions(model: torch.nn.Module, receive: Callable[[Predictions, Targets], None]) -> list[RemovableHandle]:
    """Call ``receive`` after each forward pass of a model that :func:`compares_predictions`, until the handles are removed.

    Its arguments are the decode head's predictions ``{task: [prediction, ...]}`` and the targets by label.
    """
    model, latest = unwrap(model), {}

    def keep(head: torch.nn.Module, arguments: tuple, predictions: Predictions) -> None:
        latest.update(predictions)

    def pass_on(model: torch.nn.Module, arguments: tuple, keywords: dict, outputs: object) -> None:
        receive(dict(latest), keywords.get('targets') or {})
        latest.clear()

    return [model.decode_head.register_forward_hook(keep), model.register_forward_hook(pass_on, with_kwargs=True)]


class ValidationLosses:
    """Mean losses of a model over the batches that pass through it, without another forward pass or a synchronisation.

    A batch counts as often as it has images with a label of the task. What a data set repeats to fill the last batches of several
    processes counts again. Auxiliary heads, which predict in training only, have no loss here.
    """

    def __init__(self, model: MultiTaskSegmentor) -> None:
        self._model = model
        # Sum of the losses and number of images.
        self._totals: dict[str, Tensor] = {}
        self._handles = tap_predictions(model, self.add)

    @torch.no_grad()
    def add(self, predictions: Predictions, targets: Targets) -> None:
        for name, task in self._model.tasks.items():
            target = targets.get(self._model.labels[name])
            if target is None or name not in predictions:
                continue
            labelled = task.valid_mask(target).flatten(1).any(1).sum().double()
            for key, value in task.losses(predictions[name], target).items():
                key = f'{name}/{key}'
                self._totals[key] = self._totals.get(key, 0) + torch.stack([value.double() * labelled, labelled])

    @torch.no_grad()
    def means(self) -> dict[str, float]:
        """Return ``val/<task>/loss_<name>`` and the total ``val/loss`` of all processes, and end the counting.

        Without a labelled image of any task there is none.
        """
        for handle in self._handles:
            handle.remove()
        pairs = torch.stack([*self._totals.values()]).tolist() if self._totals else []
        totals: dict[str, np.ndarray] = {}
        for share in all_gather_object(dict(zip(self._totals, pairs, strict=True))):
            for key, pair in share.items():
                totals[key] = totals.get(key, 0) + np.array(pair)
        means = {key: float(loss / count) for key, (loss, count) in totals.items() if count}
        if not means:
            return {}
        task_losses: dict[str, Tensor] = {}
        for key, value in means.items():
            task, name = key.split('/')
            if name.startswith('loss_'):
                task_losses[task] = task_losses.get(task, 0) + torch.tensor(value, dtype=torch.float64)
        total = self._model.task_balancing.cpu()(task_losses)
        return {'val/loss': float(total), **{f'val/{key}': value for key, value in means.items()}}
