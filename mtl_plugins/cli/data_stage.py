"""Copy the packed splits of a data set to a disk of this machine, and print the data root to train from."""

import argparse


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Everything but the packed folders is linked to the original. A complete copy is used again as long as neither it '
        'nor the original has changed; several processes on a machine copy once. tools/slurm_train.sh does it on every node.',
    )
    parser.add_argument('root', metavar='ROOT', help='data root with splits packed by `mtl data pack`')
    parser.add_argument('folder', metavar='FOLDER', help='folder on the disk of this machine, e.g. $TMPDIR')
    return parser


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.datasets.packing.staging import stage

    print(stage(args.root, args.folder))
