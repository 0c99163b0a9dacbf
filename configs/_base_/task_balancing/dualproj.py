# DualProj (arXiv 1706.08840), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='DualProj', place='parameters')
