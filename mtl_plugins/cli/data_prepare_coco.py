"""Reduce a COCO folder to some classes: annotations, images (linked) and a folder of object crops for pretraining."""

import argparse


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='COCO_ROOT holds annotations/instances_<split>.json and <split>/*.jpg. OUT gets the same of the images with at '
        'least one object of the classes, and crops/<split>/<class>/<annotation id>.jpg; use it as the data root of the configs. '
        'Crowds stay in the annotations and give no crops.',
    )
    parser.add_argument('root', metavar='COCO_ROOT', help='folder of COCO')
    parser.add_argument('out', metavar='OUT', help='folder to make; must be new or empty')
    parser.add_argument('--split', nargs='+', metavar='NAME', help='which splits; by default all that have images')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='categories (default: person car bicycle cat dog)')
    parser.add_argument('--min-size', type=int, default=32, metavar='N', help='least width and height of a crop (default: 32)')
    parser.add_argument('--margin', type=float, default=0.1, help='share of the box added on each side (default: 0.1)')
    parser.add_argument('--copy', action='store_true', help='copy the images instead of linking to them')
    parser.add_argument('--workers', type=int, default=2, metavar='N', help='threads (default: 2)')
    return parser


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.datasets.coco.annotations import CLASSES
    from mtl_plugins.datasets.coco.preparation import find_splits, prepare_coco

    counts = prepare_coco(
        args.root,
        args.out,
        args.split or find_splits(args.root),
        args.classes or CLASSES,
        args.min_size,
        args.margin,
        args.copy,
        args.workers,
    )
    for split, (num_images, num_crops) in counts.items():
        print(f'{args.out}: {split}, {num_images} images, {num_crops} crops')
