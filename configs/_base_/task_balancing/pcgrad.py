# PCGrad (arXiv 2001.06782), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='PCGrad', place='parameters')
