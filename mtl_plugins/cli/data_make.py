"""Generate a data set of street scenes in MiniScapes format: images, classes and depth from a procedural renderer."""

import argparse
import sys
from pathlib import Path

from mtl_plugins.cli.arguments import image_size


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog='The folder gets {train,val,test}/rgb/<index>.jpg and {train,val}/<label>/<index>.png; the labels of the '
        'test split are kept apart, in grader/test/<label>. The same seed and size give the same files, whatever the number '
        'of workers. A split whose generation was interrupted is left as .incomplete_<split>.',
    )
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to make; must be new or empty')
    parser.add_argument('--train', type=int, default=2000, metavar='N', help='number of training samples')
    parser.add_argument('--val', type=int, default=250, metavar='N', help='number of validation samples')
    parser.add_argument('--test', type=int, default=250, metavar='N', help='number of test samples')
    parser.add_argument('--size', type=image_size, default='256x512', metavar='HxW', help='height and width in pixels')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other scenes')
    parser.add_argument(
        '--labels',
        nargs='+',
        default=['semseg', 'depth'],
        metavar='NAME',
        help='labels to write: semseg, depth, normals, boundary; exact from the geometry',
    )
    parser.add_argument('--workers', type=int, default=2, help='processes that render')
    return parser


def main(args: argparse.Namespace) -> int:
    from mtl_plugins.synthetic.streets.miniscapes_writer import write_miniscapes

    try:
        write_miniscapes(args.out, args.train, args.val, args.test, args.size, args.seed, args.workers, labels=args.labels)
    except KeyboardInterrupt:
        print(f'interrupted; {args.out} holds an incomplete data set, remove it before running again.', file=sys.stderr)
        return 130
    print(f'{args.out}: {args.train} train, {args.val} val, {args.test} test samples of {args.size[0]}x{args.size[1]}')
    return 0
