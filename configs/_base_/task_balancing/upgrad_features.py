# UPGrad (arXiv 2406.16232), on the features that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='UPGrad', place='features')
