"""Start several processes as torchrun does; SIGUSR1 and SIGTERM let the training save its state and end with status 75."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage='%(prog)s [-h] [torchrun option ...] SCRIPT [argument ...]',
        epilog='Example: tools/launch.py --standalone --nproc-per-node=4 tools/train.py CONFIG --launcher pytorch. The options '
        "are torchrun's; docs/clusters.md tells about signals and restarts.",
    )
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if len(sys.argv) < 2:
        parser.error('SCRIPT is missing')
    if sys.argv[1] in ('-h', '--help'):
        parser.parse_args()
    return argparse.Namespace(arguments=sys.argv[1:])


def launch(arguments: Sequence[str]) -> int:
    """Run ``torchrun`` with ``arguments``; SIGUSR1 and SIGTERM ask the training to save its state and stop.

    Returns:
        The exit status of ``torchrun``, or 75 if the training stopped because of a signal.
    """
    from mtl_plugins.utils.launcher import FOLDER_VARIABLE, INTERRUPTED, INTERRUPTED_CODE, SIGNALS, STOP

    with tempfile.TemporaryDirectory(prefix='mtl_launch_') as name:
        folder = Path(name)
        for signal_name in SIGNALS:
            signal.signal(getattr(signal, signal_name), lambda *_: (folder / STOP).touch())
        # Its own session: a signal to the group of this process is not for it.
        process = subprocess.Popen(
            [sys.executable, '-m', 'torch.distributed.run', *arguments],
            # Of its own for each start of the processes: in the store that torchrun shares with them, nodes that count restarts
            # differently find the addresses of dead ones.
            env={'TORCH_DISABLE_SHARE_RDZV_TCP_STORE': '1', **os.environ, FOLDER_VARIABLE: name},
            start_new_session=True,
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            code = process.wait()
        if (folder / INTERRUPTED).exists():
            return INTERRUPTED_CODE
        return code if code >= 0 else 128 - code


def main() -> int:
    return launch(parse_args().arguments)


if __name__ == '__main__':
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
