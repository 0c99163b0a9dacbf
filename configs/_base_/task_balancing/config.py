# ConFIG (arXiv 2408.11104), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='ConFIG', place='parameters')
