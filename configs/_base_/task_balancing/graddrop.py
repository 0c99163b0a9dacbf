# GradDrop (arXiv 2010.06808), on the features that tasks share, as in the paper.
task_balancing = dict(type='AggregatedGradients', aggregator='GradDrop', place='features')
