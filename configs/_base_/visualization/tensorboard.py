# TensorBoard in addition to local files: `tensorboard --logdir work_dirs`. Extra: tracking.
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
