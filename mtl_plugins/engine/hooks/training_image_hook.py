"""What the network is trained on, in the log back ends."""

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mtl_plugins.labels.presets import build_labels
from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.prediction_grid import render_prediction_grid


@HOOKS.register_module()
class TrainingImageHook(Hook):
    """Draw crops of the training batch as they reach the model, with their labels: the picture ``training``.

    Lengths are drawn as in the files, without the ``length_scale`` by which a zoom may correct them.

    Args:
        interval: Draw at every so many iterations; 0 never.
        num_images: Rows of the picture at most.

    Raises:
        ValueError: If a number is out of its range.
    """

    priority = 'LOW'

    def __init__(self, *, interval: int = 500, num_images: int = 4) -> None:
        if interval < 0 or num_images < 1:
            raise ValueError(f'`interval` should not be negative and `num_images` at least 1. Found {interval} and {num_images}.')
        self.interval = interval
        self.num_images = num_images

    @master_only
    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        labels = build_labels(runner.train_dataloader.dataset.metainfo['labels'])
        rows = []
        for index, image in enumerate(data_batch['inputs'][: self.num_images]):
            row = dict(image=image.numpy(), labels={}, predictions={})
            for name, stored in data_batch.get('targets', {}).items():
                row['labels'][name] = labels[name].to_values(stored[index].numpy())
            if 'sample_idx' in data_batch:
                row['caption'] = f'train {data_batch["sample_idx"][index]}'
            rows.append(row)
        runner.visualizer.add_image('training', render_prediction_grid(rows, labels, tile_width=256), step=runner.iter + 1)
