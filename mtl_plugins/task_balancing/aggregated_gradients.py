"""Task balancing by the aggregators of TorchJD."""

import contextlib
import inspect
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch import Tensor

from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.gradient_balancing import GradientBalancing

# Their result is a sum of the rows whose weights follow from the products of the rows, as those of the Gramian-weighted ones do.
_BY_PRODUCTS = ('Random', 'Constant', 'Mean', 'Sum', 'NashMTL', 'ConFIG')
# Each coordinate of their result follows from the same one of the rows.
_BY_COORDINATE = ('GradDrop', 'TrimmedMean')
_INSTALL = "Run: pip install 'mtl_plugins[balancing]'"


def _torchjd() -> Any:
    try:
        import torchjd.aggregation
    except ImportError as error:
        raise ConfigError(f'Balancing by gradients needs TorchJD, which is not installed. {_INSTALL}') from error
    return torchjd.aggregation


def aggregator_names() -> list[str]:
    """Return the names of all aggregators of the installed TorchJD; raise a ConfigError without it."""
    library = _torchjd()
    bases = (library.Aggregator, library.WeightedAggregator, library.GramianWeightedAggregator)
    classes = [getattr(library, name) for name in library.__all__]
    return sorted(cls.__name__ for cls in classes if issubclass(cls, library.Aggregator) and cls not in bases)


@TASK_UTILS.register_module()
class AggregatedGradients(GradientBalancing):
    """The gradients of what tasks share are combined by an aggregator of TorchJD (arXiv 2406.16232), by its name there.

    Most aggregators weigh the gradients by their products alone; they get these on the CPU and in float64. There is an aggregator
    for each set of tasks that come together. What aggregators remember is in the state dict, and random numbers are a function of
    ``seed`` and iteration.

    Args:
        aggregator: Name, as UPGrad, MGDA, PCGrad, CAGrad or any other that the installed version has.
        arguments: Of the aggregator; a dict is a value per task: ``arguments=dict(pref_vector=dict(semseg=0.7, depth=0.3))``.
        place: As in :class:`GradientBalancing`.

    Raises:
        ConfigError: If TorchJD, or a package that the aggregator needs, is not installed.
        ArgumentError: If name or arguments do not fit, or the aggregator cannot work at the place ``'features'``.
    """

    def __init__(
        self,
        *,
        tasks: Iterable[str],
        aggregator: str = 'UPGrad',
        arguments: dict | None = None,
        place: str = 'parameters',
        seed: int = 0,
    ) -> None:
        super().__init__(tasks=tasks, place=place)
        self.seed, self.arguments = seed, dict(arguments or {})
        self._aggregators: dict[tuple[str, ...], Any] = {}
        if len(self.tasks) < 2:
            # A single task has no gradients to combine.
            return
        names = aggregator_names()
        if aggregator not in names:
            raise ArgumentError(f'`aggregator` should be one of {", ".join(names)}. Found {aggregator!r}.')
        self.name, self._class = aggregator, getattr(_torchjd(), aggregator)
        if place == 'features' and not (self.by_products or aggregator in _BY_COORDINATE):
            raise ArgumentError(f"`place` of {aggregator} should be 'parameters', as it follows each of them. Found {place!r}.")
        try:
            self._build(self.tasks)(self._unit(self.tasks))
        except ImportError as error:
            raise ConfigError(f'{aggregator} of TorchJD needs packages that are not installed: {error} {_INSTALL}') from error
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            reason = (str(error).splitlines() or [''])[0]
            raise ArgumentError(
                f'`arguments` should be those of {aggregator} of TorchJD, for {len(self.tasks)} tasks. Found {self.arguments} '
                f'({reason})'
            ) from error

    def __getstate__(self) -> dict:
        # Aggregators hold solvers, which cannot be copied.
        return {**super().__getstate__(), '_aggregators': {}, '_memory': self.get_extra_state()}

    def __setstate__(self, state: dict) -> None:
        memory = state.pop('_memory')
        super().__setstate__(state)
        self.set_extra_state(memory)

    @property
    def by_products(self) -> bool:
        return len(self.tasks) < 2 or self.name in _BY_PRODUCTS or issubclass(self._class, _torchjd().GramianWeightedAggregator)

    def _unit(self, tasks: Sequence[str]) -> Tensor:
        return torch.eye(len(tasks), dtype=torch.float64 if self.by_products else torch.float32)

    def _build(self, tasks: Sequence[str]) -> Any:
        arguments = {}
        for key, value in self.arguments.items():
            if isinstance(value, Mapping):
                value = torch.tensor([float(value[task]) for task in tasks], dtype=self._unit(tasks).dtype)
            arguments[key] = value
        if 'n_tasks' in inspect.signature(self._class).parameters:
            arguments['n_tasks'] = len(tasks)
        return self._class(**arguments)

    def _aggregator_for(self, tasks: Sequence[str]) -> Any:
        tasks = tuple(tasks)
        if tasks not in self._aggregators:
            aggregator = self._build(tasks)
            if tasks != tuple(self.tasks):
                try:
                    self._build(tasks)(self._unit(tasks))
                except ValueError:
                    # One that wants more rows than there are now, such as TrimmedMean.
                    aggregator = _torchjd().Mean()
            self._aggregators[tasks] = aggregator
        return self._aggregators[tasks]

    def combine(self, gramian: Tensor, rows: Tensor | None, tasks: Sequence[str]) -> tuple[Tensor | None, Tensor | None]:
        # Mixed so that neighbouring seeds share no stream.
        seed = self.seed * 1_000_003 + self._iteration
        aggregator = self._aggregator_for(tasks)
        if not self.by_products:
            if self.place == 'features':
                # Each process has samples, and so coordinates, of its own.
                seed += get_rank() * 2_147_483_647
            with torch.no_grad(), _seeded(seed, rows.device):
                return None, aggregator(rows)
        with torch.no_grad(), _seeded(seed, gramian.device):
            if isinstance(aggregator, _torchjd().GramianWeightedAggregator):
                return aggregator.gramian_weighting(gramian), None
            # Rows in T dimensions that have the same products.
            values, vectors = torch.linalg.eigh(gramian)
            rows = vectors * values.clamp(min=0).sqrt() @ vectors.T
            if isinstance(aggregator, _torchjd().WeightedAggregator):
                return aggregator.weighting(rows), None
            return torch.linalg.lstsq(rows.T, aggregator(rows)[:, None], driver='gelsd').solution[:, 0], None

    def get_extra_state(self) -> Tensor:
        if len(self.tasks) < 2:
            return self.iteration.new_zeros(0)
        stored = {
            '\n'.join(tasks): {f'{place}\n{name}': value for place, name, value in _memory(aggregator)}
            for tasks, aggregator in self._aggregators.items()
            if hasattr(aggregator, 'reset')
        }
        file = io.BytesIO()
        torch.save(stored, file)
        return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        if len(self.tasks) < 2:
            return
        self._aggregators.clear()
        stored = torch.load(io.BytesIO(state.cpu().numpy().tobytes()), weights_only=True)
        for key, memory in stored.items():
            tasks = tuple(key.split('\n'))
            aggregator = self._aggregator_for(tasks)
            # NashMTL sets up its solver in its first call.
            aggregator(self._unit(tasks))
            modules = dict(aggregator.named_modules())
            for place_and_name, value in memory.items():
                place, name = place_and_name.split('\n')
                module = modules[place]
                setattr(module, name, value.numpy() if isinstance(getattr(module, name), np.ndarray) else value)


def _memory(aggregator: torch.nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Yield place, name and value of all plain values of the modules of an aggregator, arrays as tensors."""
    for place, module in aggregator.named_modules():
        for name, value in {**vars(module), **module._buffers}.items():
            if isinstance(value, np.ndarray):
                value = torch.from_numpy(np.array(value))
            if name != 'training' and (value is None or isinstance(value, (Tensor, int, float, tuple))):
                yield place, name, value


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers of a seed within, and as if none had been drawn after it."""
    with torch.random.fork_rng(devices=[device] if device.type == 'cuda' else []):
        torch.manual_seed(seed)
        yield
