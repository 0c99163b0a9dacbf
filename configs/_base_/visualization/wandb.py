# Weights & Biases in addition to local files, after `wandb login` or with WANDB_API_KEY set. Extra: tracking.
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='WandbVisBackend')])
