# Equal weights that sum to 1.
task_balancing = dict(type='FixedWeights')
