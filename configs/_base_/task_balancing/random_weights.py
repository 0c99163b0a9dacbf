# Random loss weighting (arXiv 2111.10603).
task_balancing = dict(type='RandomWeights')
