# Weights & Biases without a network, beside the local files: `wandb sync` uploads the run later. Extra: tracking.
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='WandbVisBackend', mode='offline')])
