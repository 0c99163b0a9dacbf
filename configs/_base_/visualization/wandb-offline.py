# Weights & Biases without a network, in addition to local files: `wandb sync` uploads the run later. Extra: tracking.
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='WandbVisBackend', mode='offline')])
