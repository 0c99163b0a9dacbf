# MGDA (arXiv 1810.04650), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='MGDA', place='parameters')
