# GradNorm (arXiv 1711.02257).
task_balancing = dict(type='GradNorm', alpha=1.5, place='features', lr_mult=10.0)
