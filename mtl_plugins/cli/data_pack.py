"""Decode splits once into memory-mapped arrays (ROOT/SPLIT/packed), which loading then uses instead of the files."""

import argparse
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Configs need no change: a packed folder is found, and used as long as the files and the labels are those it was '
        "made from. The labels are those that ROOT/dataset.json describes, or MiniScapes' own. Images of a split must be of one "
        'size; 5 bytes per pixel are needed. To undo, remove the folder. An older packed folder is replaced when the new one '
        'is complete.',
    )
    parser.add_argument('root', metavar='ROOT', help='data root, the folder that holds the splits')
    parser.add_argument(
        '--split', nargs='+', metavar='NAME', help='which splits; by default those of train, val, test that exist'
    )
    parser.add_argument('--workers', type=int, default=2, metavar='N', help='decoding threads (default: 2)')
    return parser


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
    from mtl_plugins.datasets.packing.packed import write_packed

    splits = args.split or [name for name in ('train', 'val', 'test') if Path(args.root, name).is_dir()] or ['train']
    listings = [list_miniscapes(args.root, split) for split in splits]
    for listing in listings:
        folder = write_packed(listing, args.workers)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f'{folder}: {len(listing.stems)} samples, {size / 2**20:.1f} MiB')
