"""Training from start to submission."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, is_main_process

from mtl_plugins.apis.test import predict_split
from mtl_plugins.config.options import claim_work_dir, complete, is_first_process, set_work_dir
from mtl_plugins.engine.hooks.checkpoint_hook import best_checkpoint
from mtl_plugins.engine.hooks.run_record_hook import monitor_of
from mtl_plugins.engine.runner import MultiTaskRunner
from mtl_plugins.errors import SplitNotFoundError, UserError
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.records.metrics_file import best_validation, read_metrics, read_row
from mtl_plugins.records.recording import recorded_session, update_session
from mtl_plugins.registry import RUNNERS
from mtl_plugins.submission import make_run_name, name_of_file


@dataclass(frozen=True)
class TrainingResult:
    """Results of a training.

    Attributes:
        run_name: Name of the run in its record and of its submission.
        checkpoint: The best checkpoint by the score that the config watches; the newest one if it watches none.
        archive: The submission, if one was written.
        work_dir: Folder with checkpoints, log, ``metrics.csv`` and pictures.
        scores: Metrics of the best validation by their names in ``metrics.csv``; of the last one if the config watches no score,
            and none without a validation.
    """

    run_name: str
    checkpoint: Path
    archive: Path | None
    work_dir: Path
    scores: dict[str, float]


def train(config: Config) -> TrainingResult:
    """Train, validate, predict the test split with the best checkpoint and pack the submission.

    The work dir holds a record of it, see :mod:`mtl_plugins.records.record`.

    Args:
        config: As :func:`~mtl_plugins.config.load.load_config` returns it; without a ``work_dir`` it gets
            ``work_dirs/<config name>``.

    Returns:
        The scores, the best checkpoint, the work dir and the submission.

    Raises:
        ConfigError: If the config lacks something, another process trains in the work dir, or it holds a run that is not the one
            to be continued.
        UserError: If data, checkpoint or disk fail; what was saved before is intact.
    """
    complete(config, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    set_work_dir(config, None)
    claim_work_dir(config)
    with contextlib.ExitStack() as stack:
        if is_first_process(config):
            stack.enter_context(recorded_session(config.work_dir, config.to_dict(), config.filename))
        return _train(config)


def _train(config: Config) -> TrainingResult:
    runner: MultiTaskRunner = RUNNERS.build(config)
    submission = config.get('submission') or {}
    wanted = submission.get('enabled', False) and config.get('test_dataloader') is not None
    if wanted:
        # Built now: a missing test split should not show after hours of training.
        try:
            _ = runner.test_loop
        except SplitNotFoundError as error:
            wanted = False
            runner.logger.warning(f'No submission after the training: {str(error).partition(": ")[0]}.')
    name = config.get('name') or name_of_file(config.filename or 'run')
    # Every process takes the main one's name; a resumed run gets its own back with the checkpoint.
    names = [make_run_name(team=config.get('team') or 0, name=str(name), prefix=config.get('team_prefix', 'T'))]
    broadcast_object_list(names)
    runner.message_hub.update_info('run_name', names[0])
    runner.train()

    infos = runner.message_hub.runtime_info
    checkpoint = Path(best_checkpoint(runner) or infos['last_ckpt'])
    archive = None
    if wanted:
        # Only the main process saves; the others may be here before the file is.
        barrier()
        runner.logger.info(f'Predicting the test split with {checkpoint}')
        runner.start_from(checkpoint)
        archive = Path(runner.work_dir) / f'{infos["run_name"]}.zip'
        included = checkpoint if submission.get('include_checkpoint') else None
        predict_split(runner, archive, included, Path(runner.work_dir))
    if is_main_process():
        if archive:
            with contextlib.suppress(UserError):
                update_session(runner.work_dir, dict(archive=archive.name))
            runner.logger.info(f'Submission: {archive}')
        runner.logger.info(f'Best checkpoint: {checkpoint}')
    work_dir = Path(runner.work_dir)
    validations = [read_row(row) for row in read_metrics(work_dir / METRICS_FILE)]
    best = best_validation(validations, *monitor_of(runner))
    return TrainingResult(
        run_name=infos['run_name'],
        checkpoint=checkpoint,
        archive=archive,
        work_dir=work_dir,
        scores=validations[-1 if best is None else best] if validations else {},
    )
