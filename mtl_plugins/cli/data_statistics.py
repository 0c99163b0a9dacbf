"""Print the statistics of a split: RGB, depth in each representation, class frequencies, shares of invalid pixels."""

import argparse
import json
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog='Moments are exact over the pixels that count (label not 255, depth code not 0); standard deviations divide by N. '
        'Depth is given in metres, as its natural logarithm and as its reciprocal. Memory stays flat in the number of images.',
    )
    parser.add_argument('root', metavar='ROOT', help='data root, the folder that holds the splits')
    parser.add_argument('--split', default='train', help='which split')
    parser.add_argument('--json', metavar='OUT', type=Path, help='also write the numbers to this file')
    parser.add_argument('--workers', type=int, default=2, metavar='N', help='decoding threads')
    return parser


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
    from mtl_plugins.datasets.packing.statistics import format_table, summarise
    from mtl_plugins.utils.cli import track
    from mtl_plugins.utils.files import replacing
    from mtl_plugins.utils.threads import map_in_order

    dataset = MiniScapesDataset(args.root, args.split)
    samples = map_in_order(dataset.read_sample, range(len(dataset)), args.workers)
    summary = summarise(track(samples, len(dataset), args.split), dataset.labels)
    print(format_table(summary, dataset.labels))
    if args.json is not None:
        with replacing(args.json) as partial:
            partial.write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
