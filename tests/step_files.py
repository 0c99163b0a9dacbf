"""Files of the package that run in one training iteration: ``python -m tests.step_files [CONFIG]``.

Counted from ``before_train_iter`` to ``after_train_iter`` of the second iteration, in the training process itself: loader
threads fetch the batch before. The record of the run, which is written every ten seconds, does not count.
"""

import math
import sys
import tempfile
from pathlib import Path

from mmengine.hooks import Hook

PACKAGE = Path(__file__).resolve().parents[1] / 'mtl_plugins'


def files_of_a_step(config_file: str | None = None) -> list[str]:
    """Names, below the package, of the files whose functions run in one training iteration of a config on generated data."""
    from mtl_plugins.engine.hooks.run_record_hook import RunRecordHook
    from mtl_plugins.registry import RUNNERS
    from tests.fake_miniscapes import write_fake_miniscapes
    from tests.tiny import EPOCH_CONFIG, load_config, set_work_dir, shrink_data

    with tempfile.TemporaryDirectory() as folder:
        root = write_fake_miniscapes(Path(folder) / 'data', dict(train=8, val=1))
        path = config_file or str(EPOCH_CONFIG)
        config = load_config(path, {**shrink_data(load_config(path)), 'train_cfg.max_epochs': 1}, str(root))
        set_work_dir(config, f'{folder}/run')
        runner = RUNNERS.build(config)
        next(hook for hook in runner.hooks if isinstance(hook, RunRecordHook)).interval = math.inf
        files: set[str] = set()
        first, last = Hook(), Hook()
        first.before_train_iter = lambda runner, batch_idx, **_: sys.setprofile(_note(files) if batch_idx == 1 else None)
        last.after_train_iter = lambda *_, **__: sys.setprofile(None)
        runner._hooks.insert(0, first)
        runner._hooks.append(last)
        runner.train()
    return sorted(str(Path(name).relative_to(PACKAGE)) for name in files if name.startswith(str(PACKAGE)))


def _note(files: set[str]):
    return lambda frame, event, _: files.add(frame.f_code.co_filename) if event == 'call' else None


if __name__ == '__main__':
    files = files_of_a_step(*sys.argv[1:])
    print('\n'.join([*files, f'{len(files)} files']))
