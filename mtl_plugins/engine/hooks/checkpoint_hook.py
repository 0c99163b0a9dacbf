"""Checkpoints that are written before older ones go, and found again when the work dir moves."""

import contextlib
import logging
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_distributed, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper

from mtl_plugins.evaluation.functional.scores import with_ties_broken
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.checkpoint_io import write_pointer

# The state at a signal, until the next regular checkpoint.
INTERRUPTED_NAME = 'interrupted.pth'
_RANK_BUFFERS = 'rank_buffers'


def _is_relevant(record: logging.LogRecord) -> bool:
    return 'will be deprecated in future' not in record.getMessage()


class _DeferredRemoval:
    """A file backend that notes removals instead of doing them."""

    def __init__(self, backend) -> None:
        self._backend = backend
        self.removals: list[str] = []

    def remove(self, path: str) -> None:
        self.removals.append(path)

    def __getattr__(self, name: str):
        return getattr(self._backend, name)


def gather_buffers(model: torch.nn.Module) -> list[dict[str, torch.Tensor]] | None:
    """The buffers of each process, by name, such as BatchNorm's running statistics; None if they are the same everywhere.

    Within an epoch every process has its own, which :class:`SyncBuffersHook` averages at the end.
    """
    if not is_distributed():
        return None
    model = model.module if is_model_wrapper(model) else model
    names = {name for name, _ in model.named_buffers()}
    own = {name: value.cpu() for name, value in model.state_dict().items() if name in names}
    gathered = all_gather_object(own)
    first = gathered[0]
    equal = all(torch.equal(value, buffers[name]) for buffers in gathered[1:] for name, value in first.items())
    return None if equal else gathered


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` that removes an outdated checkpoint only after its successor is safely on disk.

    mmengine removes first: a full disk then costs both. It also records the newest checkpoint by absolute path, so that a
    moved work dir cannot be resumed; here ``last_checkpoint`` is relative. Same arguments. Of multitask scores of 0 the one
    with the larger unclipped sum is the better, see :func:`with_ties_broken`. A checkpoint from within an epoch holds the buffers
    of every process, see :func:`gather_buffers`, so that as many processes resume exactly.
    """

    _rank_buffers: list[dict[str, torch.Tensor]] | None = None

    @contextlib.contextmanager
    def _removing_last(self):
        backend, self.file_backend = self.file_backend, _DeferredRemoval(self.file_backend)
        try:
            yield
            for path in self.file_backend.removals:
                # A run that was resumed from another work dir leaves that one as it is.
                if Path(path).resolve().parent == Path(self.out_dir).resolve() and backend.isfile(path):
                    backend.remove(path)
        finally:
            self.file_backend = backend

    def before_train(self, runner) -> None:
        """Find the best checkpoint of a resumed run beside the checkpoint it resumes from, wherever that folder lies now."""
        hub = runner.message_hub
        folder = Path(runner._load_from).resolve().parent if runner._resume else Path(runner.work_dir)
        for name in [name for name in hub.runtime_info if name == 'last_ckpt' or name.startswith('best_ckpt')]:
            path = folder / Path(hub.get_info(name)).name
            if path.is_file():
                hub.update_info(name, str(path))
                continue
            hub.pop_info(name)
            if name.startswith('best_ckpt'):
                hub.pop_info(name.replace('best_ckpt', 'best_score'))
                runner.logger.warning(f'The best checkpoint so far, {path}, is gone: the best of the epochs to come counts.')
        # mmengine warns of the file client that it deprecates and builds itself.
        runner.logger.addFilter(_is_relevant)
        super().before_train(runner)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        with self._removing_last():
            if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
                if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                    outdated = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                    if is_main_process():
                        self.file_backend.remove(str(Path(self.out_dir) / outdated))
                self.keep_ckpt_ids.append(step)
                runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            filename = self.filename_tmpl.format(step)
            self.last_ckpt = str(Path(self.out_dir) / filename)
            runner.message_hub.update_info('last_ckpt', self.last_ckpt)
            self._save(runner, filename, meta)
            if is_main_process():
                self.file_backend.remove(str(Path(self.out_dir) / INTERRUPTED_NAME))

    def _save(self, runner, filename: str, meta: dict) -> None:
        self._rank_buffers = gather_buffers(runner.model)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        self._rank_buffers = None
        if is_main_process():
            write_pointer(runner.work_dir, Path(self.out_dir) / filename)

    def save_interrupted(self, runner, meta: dict) -> Path:
        """Save the state between two iterations as ``interrupted.pth``, which goes when the next regular checkpoint is there.

        All processes call it, and none goes on before the file is written.

        Args:
            runner: The runner.
            meta: ``epoch`` and ``iter``: how many are done; for a loop of epochs also ``position``: how many ``batches`` of the
                next one are done, ``of`` how many.
        """
        self._save(runner, INTERRUPTED_NAME, meta)
        barrier()
        return Path(self.out_dir) / INTERRUPTED_NAME

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self._rank_buffers is not None:
            checkpoint[_RANK_BUFFERS] = self._rank_buffers

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        buffers = checkpoint.get(_RANK_BUFFERS)
        if runner._resume and buffers is not None and len(buffers) == get_world_size():
            checkpoint['state_dict'].update(buffers[get_rank()])

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if not hasattr(self, 'file_backend'):
            return  # A validation without training: `before_train` did not run, and there is nothing to save.
        with self._removing_last():
            super()._save_best_checkpoint(runner, with_ties_broken(metrics))
