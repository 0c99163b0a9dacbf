"""Distributions inside a network while it trains."""

import math
import re

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from torch import Tensor, nn

from mtl_plugins.engine.prediction_tap import Predictions, PredictionTap, Targets
from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.visualizer import Histogram, Visualizer

MAX_VALUES = 2**16


def spread_values(tensor: Tensor, limit: int = MAX_VALUES) -> Tensor:
    """At most ``limit`` values of a tensor, evenly spread, as a new vector on its device."""
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

    Args:
        interval: Draw at every so many iterations; 0 never.
        layers: Regular expression, of which a part of the layer's name has to match, as ``'backbone.layer4|predictor'``. By
            default the first and the last convolution or linear layer of each part of the model.
        depth: Whether to draw the quantities of the tasks, which for depth are its metres.

    Raises:
        ArgumentError: If ``interval`` is negative or ``layers`` is no regular expression.
        ConfigError: Before the training, if no layer matches.
    """

    priority = 'LOW'

    def __init__(self, *, interval: int = 500, layers: str | None = None, depth: bool = True) -> None:
        if interval < 0:
            raise ArgumentError(f'`interval` should not be negative. Found {interval}.')
        try:
            self.pattern = None if layers is None else re.compile(layers)
        except re.error as error:
            raise ArgumentError(f'`layers` should be a regular expression ({error}). Found {layers!r}.') from error
        self.interval = interval
        self.depth = depth
        self._layers: dict[str, nn.Module] = {}
        self._handles: list = []
        self._values: dict[str, Tensor] = {}

    def before_train(self, runner) -> None:
        if not self.interval:
            return
        model = unwrap(runner.model)
        self._layers = self.find_layers(model)

    def find_layers(self, model: nn.Module) -> dict[str, nn.Module]:
        """The chosen layers by name.

        Raises:
            ConfigError: If there is none.
        """
        named = {name: module for name, module in model.named_modules() if name}
        if self.pattern is not None:
            chosen = {name: module for name, module in named.items() if self.pattern.search(name)}
            if not chosen:
                known = ', '.join(list(named)[:8])
                raise ConfigError(
                    f'`layers` of HistogramHook should match layers of the model: {known}, ... Found {self.pattern.pattern!r}.'
                )
            return chosen
        ends = {}
        for part, _ in model.named_children():
            inner = [name for name in named if name.startswith(f'{part}.') and isinstance(named[name], (nn.Conv2d, nn.Linear))]
            ends |= {name: named[name] for name in inner[:1] + inner[-1:]}
        return ends

    @master_only
    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_hook(self._activations_of(name)))
        if self.depth and PredictionTap.fits(runner.model):
            model = unwrap(runner.model)
            self._handles.append(
                PredictionTap(runner.model, lambda predictions, targets: self._keep_quantities(model, predictions, targets))
            )
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if optimizer is not None:
            self._handles.append(optimizer.register_step_pre_hook(self._keep_gradients))

    def _activations_of(self, name: str):
        def keep(layer: nn.Module, arguments: tuple, output: object) -> None:
            if isinstance(output, Tensor):
                self._values[f'activations/{name}'] = spread_values(output)

        return keep

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

    @torch.no_grad()
    def _keep_quantities(self, model: nn.Module, predictions: Predictions, targets: Targets) -> None:
        for name, task in model.tasks.items():
            target = targets.get(model.labels[name])
            if name not in predictions or target is None:
                continue
            valid = task.valid_mask(target)
            for quantity, values in task.distributions(predictions[name][-1], target).items():
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
