# MGDA-UB (arXiv 1810.04650), on the features that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='MGDA', place='features')
