# IMTL-L, scales of the losses that are learned (ICLR 2021).
task_balancing = dict(type='IMTLLossWeights', lr_mult=10.0)
