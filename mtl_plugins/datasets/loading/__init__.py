"""From keys to batches: samplers, loaders, collation."""
