# Aligned-MTL (arXiv 2305.19000), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='AlignedMTL', place='parameters')
