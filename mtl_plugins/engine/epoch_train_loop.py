"""Training by epochs that can begin within one, validate within one, and end at a score."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop

from mtl_plugins.evaluation.functional.scores import reaches
from mtl_plugins.registry import LOOPS


@LOOPS.register_module()
class EpochBasedTrainLoop(MMEngineEpochBasedTrainLoop):
    """mmengine's loop of this name that a checkpoint from the middle of an epoch continues.

    Args:
        runner: The runner.
        dataloader: A data loader or its config.
        max_epochs: Length of the training.
        val_begin: First epoch after which to validate.
        val_interval: Epochs between validations.
        dynamic_intervals: As in mmengine.
        val_iters: Validate after every so many iterations of the training instead of after epochs.
        stop_at: With ``val_iters``, the scores by name, as ``{'metrics_summary/semseg': 30.0}``, at which the training ends: when
            one validation has reached all of them.

    Raises:
        ValueError: If ``val_iters`` is less than 1, or ``stop_at`` stands without it.

    Attributes:
        first_batch: Batches of the next epoch that are already done. A sampler with ``skip``, as :class:`EpochSampler`, leaves
            them out; of others they are loaded and dropped.
    """

    first_batch = 0

    def __init__(
        self,
        runner,
        dataloader,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        val_iters: int | None = None,
        stop_at: Mapping[str, float] | None = None,
    ) -> None:
        if val_iters is not None and val_iters < 1:
            raise ValueError(f'`val_iters` should be at least 1. Found {val_iters}.')
        if val_iters is not None and (val_begin, val_interval, dynamic_intervals) != (1, 1, None):
            raise ValueError(
                '`val_iters` should stand without `val_begin`, `val_interval` and `dynamic_intervals`, which count epochs. Found '
                f'{val_begin}, {val_interval} and {dynamic_intervals}.'
            )
        if stop_at and val_iters is None:
            raise ValueError('`stop_at` should stand beside `val_iters`, the iterations between validations. Found none.')
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        self.val_iters = val_iters
        self.stop_at = dict(stop_at or {})
        if val_iters is not None:
            self.val_begin = max_epochs + 1

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first, self.first_batch = self.first_batch, 0
        for index, batch in enumerate(self._batches_from(first), first):
            self.run_iter(index, batch)
            if self.val_iters is not None and self._iter % self.val_iters == 0 and self._validate():
                return
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _validate(self) -> bool:
        """Validate; whether that ends the training."""
        metrics = self.runner.val_loop.run()
        self.runner.model.train()
        self.stop_training |= bool(self.stop_at) and reaches(metrics, self.stop_at)
        return self.stop_training

    def _batches_from(self, first: int) -> Iterator[dict]:
        sampler = self.dataloader.sampler
        if self.dataloader.batch_size is not None and hasattr(sampler, 'skip'):
            sampler.skip(first * self.dataloader.batch_size)
            return iter(self.dataloader)
        return islice(self.dataloader, first, None)
