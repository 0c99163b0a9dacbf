"""Start several processes as torchrun does; SIGUSR1 and SIGTERM let the training save its state and end with status 75."""

import argparse
import sys
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


def main() -> int:
    args = parse_args()
    from mtl_plugins.utils.launcher import launch

    return launch(args.arguments)


if __name__ == '__main__':
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
