"""From keys to batches: samplers, loaders, collation."""

from mtl_plugins.datasets.loading.samplers import EpochSampler, IterationSampler

__all__ = ['EpochSampler', 'IterationSampler']
