"""The process of one training of a sweep: ``python -m mtl_plugins.lab.experiments.training ORDER.json``."""

import os
import sys
import threading
from pathlib import Path

ORDER_NAME = 'order.json'


def end_with_parent() -> None:
    """End this process when its standard input does, that is when the process that started it has ended, however it did."""

    def wait() -> None:
        # Python's own stdin would be locked when the interpreter shuts down.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def train_run(order: dict, folder: Path) -> None:
    """Train what the order says in ``folder`` without a submission, from the newest checkpoint there, if there is one."""
    from mtl_plugins.apis.train import train
    from mtl_plugins.config.load import load_config
    from mtl_plugins.config.options import set_mixed_precision, set_resume, set_work_dir, supports_bf16

    config = load_config(order['config'], order['options'], order['data_root'])
    if config.get('submission'):
        config.submission = {**config.submission, 'enabled': False}
    set_work_dir(config, str(folder))
    set_resume(config, 'auto')
    if order['amp'] and supports_bf16():
        set_mixed_precision(config)
    hooks = config.get('default_hooks') or {}
    # The result is made of the record.
    config.default_hooks = {**hooks, 'run_record': hooks.get('run_record') or dict(type='RunRecordHook')}
    train(config)


def main() -> None:
    end_with_parent()
    from mtl_plugins.utils.data_files import read_json

    path = Path(sys.argv[1])
    train_run(read_json(path, 'order', {}), path.parent)


if __name__ == '__main__':
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
