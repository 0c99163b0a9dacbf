# Weights by iteration, linear in between: the weight of depth grows over the first 1000.
task_balancing = dict(
    type='ScheduledWeights',
    schedule=[
        dict(iteration=0, weights=dict(semseg=1.0, depth=0.0)),
        dict(iteration=1000, weights=dict(semseg=0.5, depth=0.5)),
    ],
)
