"""Generate a small data set in COCO's instance format: pictures of people, cars, bicycles, cats and dogs, with annotations."""

import argparse
import sys
from pathlib import Path

from mtl_plugins.cli.arguments import image_size


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog='The folder gets annotations/instances_{train,val}.json and {train,val}/<id>.jpg. Objects have polygons or RLE, '
        'crowds uncompressed RLE; objects of other categories (chairs, plants, lights, balls) are there to be '
        'ignored. The same seed and size give the same files, whatever the number of workers.',
    )
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to make; must be new or empty')
    parser.add_argument('--train', type=int, default=1000, metavar='N', help='number of training images')
    parser.add_argument('--val', type=int, default=250, metavar='N', help='number of validation images')
    parser.add_argument('--size', type=image_size, default='96x128', metavar='HxW', help='height and width in pixels')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other pictures')
    parser.add_argument('--workers', type=int, default=2, help='processes that render')
    return parser


def main(args: argparse.Namespace) -> int:
    from mtl_plugins.synthetic.coco.writer import write_coco

    try:
        write_coco(args.out, args.train, args.val, args.size, args.seed, args.workers)
    except KeyboardInterrupt:
        print(f'interrupted; {args.out} holds an incomplete data set, remove it before running again.', file=sys.stderr)
        return 130
    print(f'{args.out}: {args.train} train, {args.val} val images of {args.size[0]}x{args.size[1]}')
    return 0
