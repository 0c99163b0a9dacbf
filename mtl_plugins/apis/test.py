"""Evaluating a checkpoint, and predicting a split into a submission archive."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.hooks import Hook

from mtl_plugins.config.options import complete
from mtl_plugins.engine.runner import MultiTaskRunner
from mtl_plugins.engine.state import unwrap
from mtl_plugins.evaluation.metrics import MultiTaskMetric, to_values
from mtl_plugins.evaluation.scores import print_metrics
from mtl_plugins.labels.label_kind import sample_field
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import RUNNERS
from mtl_plugins.submission import SubmissionWriter, build_archive, find_image_sizes
from mtl_plugins.submission.archive import find_logs
from mtl_plugins.utils.files import make_folder, save_text, temporary_beside
from mtl_plugins.utils.zoo import locate_checkpoint


def test(
    config: Config,
    checkpoint: str,
    split: str = 'val',
    archive: str | Path | None = None,
    include_checkpoint: bool = False,
    json_path: str | Path | None = None,
) -> dict[str, float]:
    """Run a checkpoint over a split.

    Args:
        config: Resolved config with ``work_dir``.
        checkpoint: Path of the weights, or a model of the zoo.
        split: ``'val'`` is evaluated, ``'test'`` too if the config has a ``test_evaluator``, else only predicted.
        archive: If given, the predictions are packed into this submission.
        include_checkpoint: Put the checkpoint into the archive.
        json_path: If given, the metrics are written there as a flat object, with the ``protocol`` if it is not the courses'.

    Returns:
        The metrics by name; none for a split without labels.

    Raises:
        UserError: If data, checkpoint or disk fail; an older archive is intact.
    """
    if split == 'val':
        # Before the test loop of a config without a test split is left out.
        config.test_dataloader, config.test_evaluator = config.get('val_dataloader'), config.get('val_evaluator')
    complete(config, f'{split}_dataloader')
    config.load_from, config.resume = None, False
    runner: MultiTaskRunner = RUNNERS.build(config)
    runner.start_from(checkpoint)
    if archive is None:
        metrics = runner.test()
    else:
        weights = locate_checkpoint(checkpoint)
        metrics = predict_split(runner, archive, weights if include_checkpoint else None, weights.parent)
    if metrics and is_main_process():
        protocol = next((each.protocol for each in runner.test_evaluator.metrics if isinstance(each, MultiTaskMetric)), 'courses')
        print_metrics(metrics, protocol)
        if json_path is not None:
            noted = {} if protocol == 'courses' else dict(protocol=protocol)
            save_text(Path(json_path), json.dumps({**noted, **metrics}, indent=2) + '\n')
    return metrics


class WritePredictions(Hook):
    """Hand every prediction of the test loop to a :class:`SubmissionWriter`; each process writes its share of the images."""

    priority = 'LOW'

    def __init__(self, writer: SubmissionWriter) -> None:
        self.writer = writer

    def after_test_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None) -> None:
        for sample in outputs:
            predictions = {name: to_values(sample.get(f'pred_{sample_field(name)}').data) for name in self.writer.labels}
            self.writer.add(Path(sample.img_path).stem, predictions)


def predict_split(runner: MultiTaskRunner, archive: str | Path, checkpoint: str | Path | None, run: Path) -> dict[str, float]:
    """Run the test loop with the runner's weights, writing predictions as they come, and pack them.

    Args:
        runner: With loaded weights; its test loop names the images. ``submission.rounding`` of its config is that of
            :class:`SubmissionWriter`.
        archive: The zip file to write.
        checkpoint: A checkpoint to include, or None.
        run: The work dir of the training, whose metrics and logs are packed where it has some.

    Returns:
        The scores of the test evaluator.

    Raises:
        SubmissionError: If a prediction is missing or wrong, or the disk is full; an older archive is intact.
    """
    archive = Path(archive)
    labels = build_labels(runner.test_dataloader.dataset.metainfo['labels'], unwrap(runner.model).label_names)
    # One folder for all processes, beside the archive: it is on a file system that they share.
    names = [None]
    if is_main_process():
        make_folder(archive.parent)
        # Under a name by which the next run knows it if this one is killed.
        names = [str(temporary_beside(archive, '.predictions'))]
        make_folder(Path(names[0]))
    broadcast_object_list(names)
    out_dir = Path(names[0])
    try:
        with SubmissionWriter(out_dir, labels, (runner.cfg.get('submission') or {}).get('rounding', 'nearest')) as writer:
            hook = WritePredictions(writer)
            runner.register_hook(hook)
            metrics = runner.test()
        runner.hooks.remove(hook)
        barrier()
        if is_main_process():
            dataset = runner.test_dataloader.dataset
            paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
            build_archive(
                archive,
                out_dir,
                labels,
                image_sizes=find_image_sizes(paths),
                command=' '.join(['python', *sys.argv]),
                config_text=runner.cfg.pretty_text,
                metrics=read_metrics(run / METRICS_FILE),
                checkpoint=checkpoint,
                logs=find_logs(run),
            )
            runner.logger.info(f'Packed the predictions of {len(paths)} images into {archive}')
        barrier()
    finally:
        if is_main_process():
            shutil.rmtree(out_dir, ignore_errors=True)
    return metrics
