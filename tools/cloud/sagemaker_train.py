"""Entry point of a SageMaker training job: its channels, hyper-parameters and folders, passed to tools/train.py."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='All is read from the variables that the container sets (SM_HPS, SM_CHANNEL_*, SM_NUM_GPUS, SM_HOSTS, '
        'SM_CURRENT_HOST, SM_MODEL_DIR). The arguments are the hyper-parameters once more, and not looked '
        'at. docs/clusters.md lists the hyper-parameters.',
    )
    return parser.parse_known_args()[0]


def main() -> int:
    parse_args()
    from mtl_plugins.lab.sagemaker import train

    return train()


if __name__ == '__main__':
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
