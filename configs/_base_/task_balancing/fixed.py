# Fixed weights.
task_balancing = dict(type='FixedWeights', weights=dict(semseg=0.5, depth=0.5))
