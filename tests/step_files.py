"""Files of the package that run in one training iteration: ``python -m tests.step_files [CONFIG]``.

Counted from ``before_train_iter`` to ``after_train_iter`` of the second iteration, in the training process itself: loader
threads fetch the batch before.
"""

import sys
import tempfile
from pathlib import Path

from mmengine.hooks import Hook

PACKAGE = Path(__file__).resolve().parents[1] / 'mtl_plugins'


class _Watch:
    """Notes the file of every function of the package that is called."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def start(self) -> None:
        sys.setprofile(lambda frame, event, _: self.files.add(frame.f_code.co_filename) if event == 'call' else None)

    def stop(self) -> list[str]:
        sys.setprofile(None)
        return sorted(str(Path(name).relative_to(PACKAGE)) for name in self.files if name.startswith(str(PACKAGE)))


class _Start(Hook):
    """The first hook before the second iteration."""

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        if batch_idx == 1:
            self.watch.start()


class _Stop(Hook):
    """The last hook after it."""

    def __init__(self, watch: _Watch) -> None:
        self.watch, self.found = watch, []

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if batch_idx == 1:
            self.found = self.watch.stop()


def files_of_a_step(config_file: str | None = None) -> list[str]:
    """Names, below the package, of the files whose functions run in one training iteration of a config on generated data."""
    from mtl_plugins.registry import RUNNERS
    from tests.fake_miniscapes import write_fake_miniscapes
    from tests.tiny import EPOCH_CONFIG, SHRINK, load_config, set_work_dir

    with tempfile.TemporaryDirectory() as folder:
        root = write_fake_miniscapes(Path(folder) / 'data', dict(train=8, val=1))
        config = load_config(config_file or str(EPOCH_CONFIG), {**SHRINK, 'train_cfg.max_epochs': 1}, str(root))
        set_work_dir(config, f'{folder}/run')
        runner = RUNNERS.build(config)
        watch = _Watch()
        stop = _Stop(watch)
        runner._hooks.insert(0, _Start(watch))
        runner._hooks.append(stop)
        runner.train()
    return stop.found


if __name__ == '__main__':
    files = files_of_a_step(*sys.argv[1:])
    print('\n'.join([*files, f'{len(files)} files']))
