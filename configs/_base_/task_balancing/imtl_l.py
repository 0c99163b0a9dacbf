# IMTL-L: learned scales of the losses (ICLR 2021).
task_balancing = dict(type='IMTLLossWeights', lr_mult=10.0)
