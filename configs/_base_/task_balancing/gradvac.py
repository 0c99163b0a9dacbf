# GradVac (arXiv 2010.05874), on the parameters that tasks share.
task_balancing = dict(type='AggregatedGradients', aggregator='GradVac', place='parameters')
