"""Random numbers on the device as a function of (seed, rank, iteration)."""

import torch
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed torch before every training iteration, so that dropout and the like repeat exactly after a resume.

    Saving the generator's state in the checkpoint is not enough: validation, logging and workers draw from it too.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        # Mixed so that neighbouring seeds, ranks and iterations share no stream.
        torch.manual_seed((runner.seed * 1_000_003 + runner.rank * 10_007) * 2_147_483_647 % 2**61 + runner.iter)
