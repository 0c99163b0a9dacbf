"""Task balancing by an aggregator of TorchJD."""

from collections.abc import Iterable, Sequence

from mmengine.dist import get_rank
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.gradient_balancing import GradientBalancing
from mtl_plugins.task_balancing.torchjd_aggregation import TorchJDAggregation


@TASK_UTILS.register_module()
class AggregatedGradients(GradientBalancing):
    """The gradients of what tasks share are combined by an aggregator of TorchJD (arXiv 2406.16232), by its name there.

    UPGrad, MGDA, PCGrad, CAGrad, IMTLG, NashMTL, AlignedMTL, GradDrop, DualProj, ConFIG, Random and all others that the installed
    version has. What aggregators remember is in the state dict, and random numbers are a function of seed and iteration.

    Args:
        tasks: Names of the tasks that are trained.
        aggregator: Name.
        arguments: Of the aggregator; a dict is a value per task: ``arguments=dict(pref_vector=dict(semseg=0.7, depth=0.3))``.
        place: As in :class:`GradientBalancing`.
        seed: Of random numbers.

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
        self.seed = seed
        # A single task has no gradients to combine.
        self.aggregation = TorchJDAggregation(aggregator, arguments or {}, self.tasks) if len(self.tasks) > 1 else None
        if self.aggregation and place == 'features' and not (self.by_products or self.aggregation.by_coordinate):
            raise ArgumentError(f"`place` of {aggregator} should be 'parameters', as it follows each of them. Found {place!r}.")

    @property
    def by_products(self) -> bool:
        return self.aggregation is None or self.aggregation.by_products

    def combine(self, gramian: Tensor, rows: Tensor | None, tasks: Sequence[str]) -> tuple[Tensor | None, Tensor | None]:
        # Mixed so that neighbouring seeds share no stream.
        seed = self.seed * 1_000_003 + self._iteration
        if self.by_products:
            return self.aggregation.weigh(gramian, tasks, seed), None
        if self.place == 'features':
            # Each process has samples, and so coordinates, of its own.
            seed += get_rank() * 2_147_483_647
        return None, self.aggregation.combine(rows, tasks, seed)

    def get_extra_state(self) -> Tensor:
        """What the aggregators remember, as bytes."""
        return self.aggregation.state() if self.aggregation else self.iteration.new_zeros(0)

    def set_extra_state(self, state: Tensor) -> None:
        if self.aggregation:
            self.aggregation.load_state(state)
