# Geometric mean of the losses, GLS (arXiv 1904.08492).
task_balancing = dict(type='GeometricMean')
