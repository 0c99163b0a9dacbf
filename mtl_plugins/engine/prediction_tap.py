"""Losses of the validation split and histograms of a training, taken from the model while a loop runs it."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from mmengine.dist import all_gather_object, master_only
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mtl_plugins.engine.state import unwrap
from mtl_plugins.models.class_attention import ClassConditionalSegmentor
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.visualizer import Histogram, Visualizer

MAX_VALUES = 2**16


def compares_predictions(model: torch.nn.Module) -> bool:
    """Return True if the losses of the model compare the predictions of its head with the targets."""
    model = unwrap(model)
    losses = (MultiTaskSegmentor.loss, ClassConditionalSegmentor.loss)
    return isinstance(model, MultiTaskSegmentor) and type(model).loss in losses


def tap_predictions(
    model: torch.nn.Module, receive: Callable[[str, DenseTask, list[Tensor], Tensor], None]
) -> list[RemovableHandle]:
    """Call ``receive(name, task, predictions, target)`` after each forward pass with a target, until the handles are removed."""
    model, latest = unwrap(model), {}

    def keep(head: torch.nn.Module, arguments: tuple, predictions: dict[str, list[Tensor]]) -> None:
        latest.update(predictions)

    @torch.no_grad()
    def pass_on(model: torch.nn.Module, arguments: tuple, keywords: dict, outputs: object) -> None:
        targets = keywords.get('targets') or {}
        for name, task in model.tasks.items():
            target = targets.get(model.labels[name])
            if target is not None and name in latest:
                receive(name, task, latest[name], target)
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
        self._handles = tap_predictions(model, self._add)

    def _add(self, name: str, task: DenseTask, predictions: list[Tensor], target: Tensor) -> None:
        labelled = task.valid_mask(target).flatten(1).any(1).sum().double()
        for key, value in task.losses(predictions, target).items():
            key = f'{name}/{key}'
            self._totals[key] = self._totals.get(key, 0) + torch.stack([value.double() * labelled, labelled])

    @torch.no_grad()
    def means(self) -> dict[str, float]:
        """Return ``val/<task>/loss_<name>`` and the total ``val/loss`` of all processes, where a task has labels, and stop."""
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


def spread_values(tensor: Tensor, limit: int = MAX_VALUES) -> Tensor:
    """Return at most ``limit`` values of a tensor, evenly spread, as a new vector on its device."""
    tensor = tensor.detach()
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    values = tensor.reshape(-1)
    step = max(-(-len(values) // limit), 1)
    # A step that shares a factor with the number of channels would always see the same ones.
    while step > 1 and math.gcd(step, len(values)) > 1:
        step += 1
    return values[::step].clone()


@HOOKS.register_module()
class HistogramHook(Hook):
    """Histograms of weights, gradients and activations of layers, and of what tasks predict, in all back ends that take them.

    * ``weights/<layer>.<parameter>``, ``gradients/<layer>.<parameter>`` (as the optimizer gets them: of all accumulated
      iterations, after clipping) and ``activations/<layer>``, the layer's output.
    * ``<task>/<quantity>`` for each quantity of :meth:`DenseTask.distributions`, over the pixels of the batch with a label.

    Of each at most 65,536 evenly spread values of one batch of the main process count. Outside the iterations that draw, nothing
    is computed, kept or waited for. A run with this hook takes exactly the steps that it takes without.

    Layers are the first and the last convolution or linear layer of each part of the model.

    Args:
        interval: Draw at every so many iterations; 0 never.
    """

    priority = 'LOW'

    def __init__(self, *, interval: int = 500) -> None:
        self.interval = interval
        self._layers: dict[str, nn.Module] = {}
        self._handles: list = []
        self._values: dict[str, Tensor] = {}

    def before_train(self, runner) -> None:
        for part, root in unwrap(runner.model).named_children():
            inner = [
                (f'{part}.{name}', each)
                for name, each in root.named_modules()
                if name and isinstance(each, (nn.Conv2d, nn.Linear))
            ]
            self._layers |= dict(inner[:1] + inner[-1:])

    @master_only
    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_hook(partial(self._keep_activations, name)))
        if compares_predictions(runner.model):
            self._handles += tap_predictions(runner.model, self._keep_quantities)
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if optimizer is not None:
            self._handles.append(optimizer.register_step_pre_hook(self._keep_gradients))

    def _keep_activations(self, name: str, layer: nn.Module, arguments: tuple, output: object) -> None:
        if isinstance(output, Tensor):
            self._values[f'activations/{name}'] = spread_values(output)

    def _keep_gradients(self, *_) -> None:
        for name, parameter in self._parameters():
            if parameter.grad is not None:
                self._values[f'gradients/{name}'] = spread_values(parameter.grad)

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [
            (f'{layer}.{name}', parameter)
            for layer, module in self._layers.items()
            for name, parameter in module.named_parameters(recurse=False)
        ]

    def _keep_quantities(self, name: str, task: DenseTask, predictions: list[Tensor], target: Tensor) -> None:
        valid = task.valid_mask(target)
        for quantity, values in task.distributions(predictions[-1], target).items():
            # What is not finite does not count.
            self._values[f'{name}/{quantity}'] = spread_values(values.masked_fill(~valid, math.nan))

    @master_only
    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        values = {f'weights/{name}': spread_values(parameter) for name, parameter in self._parameters()} | self._values
        self._values = {}
        if isinstance(runner.visualizer, Visualizer):
            histograms = {name: Histogram.of(tensor.float().cpu().numpy()) for name, tensor in values.items()}
            known = {name: histogram for name, histogram in histograms.items() if histogram is not None}
            runner.visualizer.add_histograms(known, step=runner.iter + 1)
