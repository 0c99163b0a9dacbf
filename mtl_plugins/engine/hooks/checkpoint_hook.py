"""Checkpoints that are written before older ones go, and early stopping."""

import logging
import os
import re
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_distributed, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.hooks import EarlyStoppingHook as MMEngineEarlyStoppingHook
from mmengine.optim import BaseOptimWrapper, OptimWrapper

from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import CheckpointError, ConfigError
from mtl_plugins.evaluation.scores import SUMMARY_MULTITASK, SUMMARY_UNCLIPPED, rule_of, with_ties_broken
from mtl_plugins.records.metrics_file import read_row
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, write_pointer
from mtl_plugins.utils.config_classes import suggest
from mtl_plugins.utils.files import replacing

# The state at a signal, until the next regular checkpoint.
INTERRUPTED_NAME = 'interrupted.pth'
_RANK_BUFFERS = 'rank_buffers'
_RANK_GRADIENTS = 'rank_gradients'


def _restores_gradients(record: logging.LogRecord) -> bool:
    return 'gradient of some iterations is lost' not in record.getMessage()


def best_checkpoint(runner) -> str | None:
    """Return the path of the best checkpoint so far, of several scores by the first; None without one."""
    infos = runner.message_hub.runtime_info
    keys = [key for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.save_best for key in hook.key_indicators]
    return next((infos[name] for name in ('best_ckpt', *(f'best_ckpt_{key}' for key in keys)) if infos.get(name)), None)


def gather_buffers(model: torch.nn.Module) -> list[dict[str, torch.Tensor]] | None:
    """Return the buffers of each process, which mmengine averages after an epoch, by name; None if all have the same."""
    if not is_distributed():
        return None
    model = unwrap(model)
    names = {name for name, _ in model.named_buffers()}
    own = {name: value.cpu() for name, value in model.state_dict().items() if name in names}
    gathered = all_gather_object(own)
    first = gathered[0]
    equal = all(torch.equal(value, buffers[name]) for buffers in gathered[1:] for name, value in first.items())
    return None if equal else gathered


def gather_gradients(wrapper: BaseOptimWrapper, model: torch.nn.Module) -> list[dict[str, torch.Tensor]] | None:
    """Return the gradients that each process has accumulated for a step to come, by parameter; None between accumulations."""
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return None
    return all_gather_object(
        {name: value.grad.cpu() for name, value in unwrap(model).named_parameters() if value.grad is not None}
    )


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with its arguments, for runs that resume exactly after a kill or a full disk.

    mmengine removes an outdated checkpoint before its successor is there; here it goes when the successor is complete, and the
    earlier best one when ``metrics.csv`` has the row of the better validation. What a kill kept from being removed goes at the
    next start. A work dir may be moved. A run that is resumed in another one copies the best checkpoint.

    Of multitask scores of 0 the one with the larger unclipped sum is the better. A checkpoint from within an epoch holds the
    buffers of every process, and one from within an accumulation their gradients, so that as many processes resume exactly.
    """

    # What each process has of its own, while a checkpoint is written: lists of tensors by name.
    _rank_states: Mapping[str, list[dict[str, torch.Tensor]]] = {}

    def before_train(self, runner) -> None:
        super().before_train(runner)
        if runner.resumed_validation is not None:
            self._note_best(runner, runner.resumed_validation)
        hub = runner.message_hub
        # The work dir may have moved: its files are beside the checkpoint.
        folder = Path(runner._load_from).resolve().parent if runner._resume else Path(runner.work_dir)
        for name in [name for name in hub.runtime_info if name == 'last_ckpt' or name.startswith('best_ckpt')]:
            path = folder / Path(hub.get_info(name)).name
            if not path.is_file():
                hub.pop_info(name)
                if name != 'last_ckpt':
                    hub.pop_info(name.replace('best_ckpt', 'best_score'))
                    runner.logger.warning(f'The best checkpoint so far, {path}, is gone: the best of the epochs to come counts.')
                continue
            if name != 'last_ckpt' and path.parent != Path(self.out_dir).resolve():
                path = self._copy(path)
            hub.update_info(name, str(path))
        self.last_ckpt = hub.runtime_info.get('last_ckpt')
        if is_main_process():
            self._remove_other_bests(runner)
            if Path(find_latest_checkpoint(runner.work_dir) or '').name != INTERRUPTED_NAME:
                self._remove(INTERRUPTED_NAME)

    def _copy(self, path: Path) -> Path:
        target = Path(self.out_dir) / path.name
        if is_main_process():
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target, CheckpointError) as temporary:
                shutil.copyfile(path, temporary)
        return target

    def _remove(self, name: str) -> None:
        path = Path(self.out_dir) / name
        if path.is_file():
            self.file_backend.remove(str(path))

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        ids: list[int] = []
        if self.max_keep_ckpts > 0:
            # The file names those, too, that go when it is complete: after a kill in between the next start removes them.
            ids = [*(each for each in self.keep_ckpt_ids if each != step), step]
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._save(runner, filename, meta)
        if is_main_process():
            self._remove(INTERRUPTED_NAME)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(ids, self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            if is_main_process():
                for outdated in ids[: -self.max_keep_ckpts]:
                    self._remove(self.filename_tmpl.format(outdated))

    def _save(self, runner, filename: str, meta: dict) -> None:
        buffers, gradients = gather_buffers(runner.model), gather_gradients(runner.optim_wrapper, runner.model)
        states = {_RANK_BUFFERS: buffers, _RANK_GRADIENTS: gradients}
        self._rank_states = {name: state for name, state in states.items() if state is not None}
        runner.save_checkpoint(
            self.out_dir,
            filename,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        self._rank_states = {}
        if is_main_process():
            write_pointer(runner.work_dir, Path(self.out_dir) / filename)

    def save_interrupted(self, runner, meta: dict) -> Path:
        """Save the state between two iterations as ``interrupted.pth`` until the next regular checkpoint; all processes call it.

        ``meta`` has the finished ``epoch`` and ``iter``; for a loop of epochs also ``position``: how many ``batches`` of the next
        one are done, ``of`` how many.
        """
        self._save(runner, INTERRUPTED_NAME, meta)
        barrier()
        return Path(self.out_dir) / INTERRUPTED_NAME

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint.update(self._rank_states)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        buffers, gradients = (checkpoint.get(name, []) for name in (_RANK_BUFFERS, _RANK_GRADIENTS))
        if len(buffers) == get_world_size():
            checkpoint['state_dict'].update(buffers[get_rank()])
        if len(gradients) == get_world_size():
            for name, parameter in unwrap(runner.model).named_parameters():
                gradient = gradients[get_rank()].get(name)
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
            # mmengine tells so of every iteration at which gradients are pending.
            runner.logger.addFilter(_restores_gradients)

    def after_val(self, runner) -> None:
        # Now the row of the validation is in `metrics.csv`.
        if hasattr(self, 'file_backend') and is_main_process():
            self._remove_other_bests(runner)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if not hasattr(self, 'file_backend'):
            return  # A validation without training: `before_train` did not run, and there is nothing to save.
        for key, score, name in self._note_best(runner, metrics):
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=False,
                save_param_scheduler=False,
                meta=dict(epoch=runner.epoch, iter=runner.iter),
                by_epoch=False,
            )
            unit = f'{runner.epoch} epoch' if self.by_epoch else f'{runner.iter} iter'
            # Of multitask scores of 0 the unclipped sum was compared.
            known = SUMMARY_UNCLIPPED if key == SUMMARY_MULTITASK and score != metrics.get(key) else key
            runner.logger.info(f'The best checkpoint with {score:0.4f} {known} at {unit} is saved to {name}.')

    def _bests(self) -> Iterator[tuple[str, str]]:
        """Iterate the scores that a checkpoint is kept for, with the endings of their names in the message hub."""
        keys = self.key_indicators if self.save_best else ()
        yield from ((key, '' if len(keys) == 1 else f'_{key}') for key in keys)

    def _note_best(self, runner, metrics: Mapping[str, float]) -> list[tuple[str, float, str]]:
        """Tell the message hub of scores that are better than before, and return name, value and checkpoint of each."""
        metrics = with_ties_broken(metrics)
        if self.save_best and 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        infos, better = runner.message_hub.runtime_info, []
        for (key, ending), rule in zip(self._bests(), self.rules if self.save_best else (), strict=True):
            if key not in metrics:
                raise ConfigError(
                    f'`save_best` should be a score of the validation: {", ".join(metrics)}. Found {key!r}.'
                    f'{suggest(key, metrics, most=0)}'
                )
            score = metrics[key]
            if score is None or not self.is_better_than[key](score, infos.get(f'best_score{ending}', self.init_value_map[rule])):
                continue
            done = runner.epoch if self.by_epoch else runner.iter
            name = f'best_{key}_{self.filename_tmpl.format(done)}'.replace('/', '_')
            path = str(Path(self.out_dir) / name)
            runner.message_hub.update_info(f'best_score{ending}', score)
            runner.message_hub.update_info(f'best_ckpt{ending}', path)
            better.append((key, score, name))
        return better

    def _remove_other_bests(self, runner) -> None:
        for key, ending in self._bests():
            best = runner.message_hub.runtime_info.get(f'best_ckpt{ending}')
            if best is None or not Path(best).is_file():
                continue
            count = re.sub(r'\\\{.*?\\\}', r'\\d+', re.escape(self.filename_tmpl))
            pattern = re.compile(re.escape(f'best_{key}_'.replace('/', '_')) + count)
            for name in os.listdir(self.out_dir):
                if name != Path(best).name and pattern.fullmatch(name):
                    self._remove(name)

    def after_train(self, runner) -> None:
        infos = runner.message_hub.runtime_info
        paths = {key: infos.get(f'best_ckpt{ending}') for key, ending in self._bests()}
        self.best_ckpt_path_dict = {key: path for key, path in paths.items() if path}
        self.best_ckpt_path = None
        super().after_train(runner)


@HOOKS.register_module()
class EarlyStoppingHook(MMEngineEarlyStoppingHook):
    """mmengine's hook of this name, which compares scores as :class:`AtomicCheckpointHook` does.

    A resumed run has waited as long as the validations in its ``metrics.csv`` say, up to the checkpoint it continues from.

    Args:
        monitor: Name of the score.
        rule: ``'greater'`` or ``'less'``; None is the rule of the summaries of this package.

    Raises:
        ConfigError: If ``rule`` is None and the name of the score does not tell it, or is none of the two.
    """

    def __init__(self, monitor: str, rule: str | None = None, **kwargs: Any) -> None:
        rule = rule or rule_of(monitor)
        if rule not in ('greater', 'less'):
            raise ConfigError(f"`rule` of EarlyStoppingHook should be 'greater' or 'less' for {monitor}. Found {rule!r}.")
        super().__init__(monitor, rule, **kwargs)

    def before_train(self, runner) -> None:
        stop, reason = False, ''
        for row in runner.earlier_validations:
            metrics = with_ties_broken(read_row(row))
            if self.monitor in metrics:
                stop, reason = self._check_stop_condition(metrics[self.monitor])
        # A run that was killed after its last validation has no further epoch.
        if stop and runner.resumed_validation is not None:
            runner.train_loop.stop_training = True
            runner.logger.info(reason)

    def after_val_epoch(self, runner, metrics: dict[str, float]) -> None:
        super().after_val_epoch(runner, with_ties_broken(metrics))
