# Homoscedastic uncertainty (arXiv 1705.07115).
task_balancing = dict(type='UncertaintyWeights', lr_mult=10.0)
