# FairGrad (arXiv 2402.15638), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='FairGrad', arguments=dict(alpha=1.0), place='parameters')
