"""The key by which samplers ask a dataset for a sample: everything that its content may depend on."""

from typing import NamedTuple

import numpy as np


class SampleKey(NamedTuple):
    """One draw of a sample.

    Attributes:
        index: Position in the dataset.
        epoch: How often the data had been passed over before this draw.
        seed: Seed of the run.
        position: Where the sample lies in a data set that holds this one several times or beside others; None: at ``index``.
    """

    index: int
    epoch: int = 0
    seed: int = 0
    position: int | None = None

    def rng(self) -> np.random.Generator:
        """A generator that depends on this key alone, so that workers, threads and ranks hold no random state."""
        return np.random.default_rng([self.seed, self.epoch, self.index])
