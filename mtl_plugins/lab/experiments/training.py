"""The process of one training of a sweep: ``python -m mtl_plugins.lab.experiments.training ORDER.json``."""

import json
import os
import resource
import sys
import threading
from pathlib import Path

ORDER_NAME = 'order.json'
FACTS_NAME = 'facts.json'


def end_with_parent() -> None:
    """End this process when its standard input does, that is when the process that started it has ended, however it did."""

    def wait() -> None:
        # Python's own stdin would be locked when the interpreter shuts down.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def train_run(order: dict, folder: Path, backend: dict | None = None) -> None:
    """Train what the order says in ``folder`` without a submission, from the newest checkpoint there, if there is one.

    Leaves ``facts.json``: trainable and other ``parameters``, ``memory`` in MiB (the most that torch had allocated on the GPU,
    the most resident memory of the process without one) and ``device``. ``backend`` is a log back end to add to the config's.
    """
    import torch

    from mtl_plugins.apis.train import train
    from mtl_plugins.config.load import load_config
    from mtl_plugins.config.options import add_backend, set_mixed_precision, set_resume, set_work_dir, supports_bf16
    from mtl_plugins.registry import MODELS
    from mtl_plugins.utils.files import replacing

    threads = torch.get_num_threads()
    config = load_config(order['config'], order['options'], order['data_root'])
    if config.get('submission'):
        config.submission = {**(config.get('submission') or {}), 'enabled': False}
    set_work_dir(config, str(folder))
    set_resume(config, 'auto')
    if backend is not None:
        add_backend(config, backend)
    if order['amp'] and supports_bf16():
        set_mixed_precision(config)
    parameters = sum(parameter.numel() for parameter in MODELS.build(config.model).parameters())
    train(config)
    if torch.cuda.is_available():
        memory, device = torch.cuda.max_memory_allocated() / 2**20, torch.cuda.get_device_name()
    else:
        memory, device = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, f'cpu, {threads} thread(s)'
    with replacing(folder / FACTS_NAME) as temporary:
        temporary.write_text(json.dumps(dict(parameters=parameters, memory=round(memory, 1), device=device)), encoding='utf-8')


def main() -> None:
    end_with_parent()
    from mtl_plugins.utils.data_files import read_json

    path = Path(sys.argv[1])
    train_run(read_json(path, 'order', {}), path.parent)


if __name__ == '__main__':
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
