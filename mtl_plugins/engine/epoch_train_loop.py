"""Training by epochs that can begin within one."""

from collections.abc import Iterator
from itertools import islice

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop

from mtl_plugins.registry import LOOPS


@LOOPS.register_module()
class EpochBasedTrainLoop(MMEngineEpochBasedTrainLoop):
    """mmengine's loop of this name, with the same arguments, that a checkpoint from the middle of an epoch continues.

    Attributes:
        first_batch: Batches of the next epoch that are already done. A sampler with ``skip``, as :class:`EpochSampler`, leaves
            them out; of others they are loaded and dropped.
    """

    first_batch = 0

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first, self.first_batch = self.first_batch, 0
        for index, batch in enumerate(self._batches_from(first), first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches_from(self, first: int) -> Iterator[dict]:
        sampler = self.dataloader.sampler
        if self.dataloader.batch_size is not None and hasattr(sampler, 'skip'):
            sampler.skip(first * self.dataloader.batch_size)
            return iter(self.dataloader)
        return islice(self.dataloader, first, None)
