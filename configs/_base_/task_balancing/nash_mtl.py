# Nash-MTL (arXiv 2202.01017), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='NashMTL', place='parameters')
