# Dynamic weight average (arXiv 1803.10704). Set `interval` to the number of iterations of an epoch.
task_balancing = dict(type='DynamicWeightAverage', temperature=2.0, interval=100)
