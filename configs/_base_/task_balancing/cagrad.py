# CAGrad (arXiv 2110.14048), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='CAGrad', arguments=dict(c=0.5), place='parameters')
