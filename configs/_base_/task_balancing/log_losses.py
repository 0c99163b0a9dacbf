# Sum of the logarithms of the losses (arXiv 2308.12029).
task_balancing = dict(type='LogLosses')
