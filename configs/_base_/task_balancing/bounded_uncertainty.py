# Uncertainty with a regulariser that is never negative (arXiv 1805.06334).
task_balancing = dict(type='BoundedUncertaintyWeights', lr_mult=10.0)
