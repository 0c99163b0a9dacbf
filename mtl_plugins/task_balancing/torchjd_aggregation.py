"""The aggregators of TorchJD by name."""

import contextlib
import inspect
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.errors import ArgumentError, ConfigError

# Their result is a sum of the rows whose weights follow from the products of the rows, as those of the Gramian-weighted ones do.
_BY_PRODUCTS = ('Random', 'Constant', 'Mean', 'Sum', 'NashMTL', 'ConFIG')
_BY_COORDINATE = ('GradDrop', 'TrimmedMean')


def _torchjd() -> Any:
    try:
        import torchjd.aggregation
    except ImportError as error:
        raise ConfigError(
            "Balancing by gradients needs TorchJD, which is not installed. Run: pip install 'mtl_plugins[balancing]'"
        ) from error
    return torchjd.aggregation


def aggregator_names() -> list[str]:
    """All aggregators of the installed TorchJD.

    Raises:
        ConfigError: If it is not installed.
    """
    library = _torchjd()
    bases = (library.Aggregator, library.WeightedAggregator, library.GramianWeightedAggregator)
    classes = [getattr(library, name) for name in library.__all__]
    return sorted(cls.__name__ for cls in classes if issubclass(cls, library.Aggregator) and cls not in bases)


class TorchJDAggregation:
    """An aggregator of TorchJD for each set of tasks that come together, with its state.

    Most aggregators weigh the rows by their products alone. They get these on the CPU and in float64; the rows stay where they
    are. Random numbers are a function of the seed that is given with each call.

    Args:
        name: One of :func:`aggregator_names`.
        arguments: Of the aggregator. A dict is a value per task, and becomes a vector of those that there are; ``n_tasks`` is
            known.
        tasks: All tasks.

    Attributes:
        by_products: Whether :meth:`weigh` serves, else :meth:`combine`.
        by_coordinate: Whether each coordinate of the result follows from the same one of the rows.

    Raises:
        ConfigError: If TorchJD, or a package that the aggregator needs, is not installed.
        ArgumentError: If the name or the arguments do not fit.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], tasks: Sequence[str]) -> None:
        names = aggregator_names()
        if name not in names:
            raise ArgumentError(f'`aggregator` should be one of {", ".join(names)}. Found {name!r}.')
        self._class = getattr(_torchjd(), name)
        self.by_products = issubclass(self._class, _torchjd().GramianWeightedAggregator) or name in _BY_PRODUCTS
        self.by_coordinate = name in _BY_COORDINATE
        self.name, self.arguments, self.tasks = name, dict(arguments), tuple(tasks)
        self._aggregators: dict[tuple[str, ...], Any] = {}
        try:
            self._build(self.tasks)(self._unit(self.tasks))
        except ImportError as error:
            raise ConfigError(
                f"{name} of TorchJD needs packages that are not installed: {error} Run: pip install 'mtl_plugins[balancing]'"
            ) from error
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            reason = (str(error).splitlines() or [''])[0]
            raise ArgumentError(
                f'`arguments` should be those of {name} of TorchJD, for {len(tasks)} tasks. Found {self.arguments} ({reason})'
            ) from error

    def __deepcopy__(self, memo: dict) -> 'TorchJDAggregation':
        copied = TorchJDAggregation(self.name, self.arguments, self.tasks)
        copied.load_state(self.state())
        return copied

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

    def _for(self, tasks: Sequence[str]) -> Any:
        tasks = tuple(tasks)
        if tasks not in self._aggregators:
            aggregator = self._build(tasks)
            if tasks != self.tasks:
                try:
                    self._build(tasks)(self._unit(tasks))
                except ValueError:
                    # One that wants more rows than there are now, such as TrimmedMean.
                    aggregator = _torchjd().Mean()
            self._aggregators[tasks] = aggregator
        return self._aggregators[tasks]

    def weigh(self, gramian: Tensor, tasks: Sequence[str], seed: int) -> Tensor:
        """The weights ``(T,)`` of the rows.

        Args:
            gramian: Products of the rows ``(T, T)``, finite, float64, on the CPU.
            tasks: Those that the rows belong to.
            seed: Of the random numbers.
        """
        aggregator = self._for(tasks)
        with torch.no_grad(), _seeded(seed, gramian.device):
            if isinstance(aggregator, _torchjd().GramianWeightedAggregator):
                return aggregator.gramian_weighting(gramian)
            # Rows in T dimensions that have the same products.
            values, vectors = torch.linalg.eigh(gramian)
            rows = vectors * values.clamp(min=0).sqrt() @ vectors.T
            if isinstance(aggregator, _torchjd().WeightedAggregator):
                return aggregator.weighting(rows)
            return torch.linalg.lstsq(rows.T, aggregator(rows)[:, None], driver='gelsd').solution[:, 0]

    def combine(self, rows: Tensor, tasks: Sequence[str], seed: int) -> Tensor:
        """The result ``(n,)`` for the rows ``(T, n)``."""
        aggregator = self._for(tasks)
        with torch.no_grad(), _seeded(seed, rows.device):
            return aggregator(rows)

    def state(self) -> Tensor:
        """What the aggregators remember, as bytes."""
        stored = {
            '\n'.join(tasks): {f'{place}\n{name}': value for place, name, value in _memory(aggregator)}
            for tasks, aggregator in self._aggregators.items()
            if hasattr(aggregator, 'reset')
        }
        file = io.BytesIO()
        torch.save(stored, file)
        return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)

    def load_state(self, state: Tensor) -> None:
        """Continue from what :meth:`state` gave."""
        self._aggregators.clear()
        stored = torch.load(io.BytesIO(state.cpu().numpy().tobytes()), weights_only=True)
        for key, memory in stored.items():
            tasks = tuple(key.split('\n'))
            aggregator = self._for(tasks)
            # NashMTL sets up its solver in its first call.
            aggregator(self._unit(tasks))
            modules = dict(aggregator.named_modules())
            for place_and_name, value in memory.items():
                place, name = place_and_name.split('\n')
                module = modules[place]
                if isinstance(getattr(module, name), np.ndarray):
                    value = value.numpy()
                setattr(module, name, value)


def _memory(aggregator: torch.nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Place, name and value of all plain values of the modules of an aggregator, arrays as tensors."""
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
