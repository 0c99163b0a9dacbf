"""Convert Cityscapes, Synscapes, NYUv2, CamVid or plain folders to a folder in MiniScapes format, resized if asked."""

import argparse
from pathlib import Path

from mtl_plugins.cli.arguments import image_size


def parse_split(text: str) -> tuple[str, str]:
    """'NAME' or 'NAME=SOURCE_NAME' to (NAME, SOURCE_NAME)."""
    name, _, source = text.partition('=')
    if not name or name.startswith('.') or '/' in name or (not source and '=' in text):
        raise argparse.ArgumentTypeError(f'a split is NAME or NAME=NAME_IN_THE_SOURCE, such as val=test. Found {text!r}.')
    return name, source or name


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
OUT gets SPLIT/rgb/<index>.jpg, SPLIT/<label>/<index>.png, dataset.json, which describes the labels, and SPLIT/sources.csv, which
names the origin of each index. Labels of a split named test are kept apart, in grader/test. A label that the source, or a sample,
lacks is left out. OUT appears when it is complete.

Sizes: the largest centred window with the proportions of --size is cut out and scaled, images by areas (bilinear where they
grow), all labels at the nearest pixel. Nothing is stretched. Depth stays in metres, stored as the nearest code of its range.

Kind folders: SOURCE/dataset.json, or the file that --labels-file names, describes the labels as configs do, for example
  {"labels": {"semseg": {"type": "ClassMap", "classes": ["road", "car", "sky"]},
              "depth": {"type": "DepthMap", "encoding": "metres", "scale": 0.001, "depth_range": [0.5, 80]}}}
for SOURCE/images/SPLIT/NAME.jpg (or .png), SOURCE/annotations/SPLIT/NAME.png and SOURCE/depth/SPLIT/NAME.png in millimetres.
Another layout: "path" of a label, and "image", "stem" and "split_file" next to "labels", as MultiTaskDataset takes them.
""",
    )
    parser.add_argument('kind', metavar='KIND', help='cityscapes, synscapes, nyuv2, camvid or folders')
    parser.add_argument('source', metavar='SOURCE', type=Path, help='folder of the data set')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to make; must be new or empty')
    parser.add_argument('--size', type=image_size, metavar='HxW', help='height and width in pixels (default: as they are)')
    parser.add_argument(
        '--splits',
        nargs='+',
        type=parse_split,
        metavar='NAME',
        help='which splits; val=test converts the test split of the source to one named val '
        '(default: those of train, val, test that exist; for nyuv2 train and val=test)',
    )
    parser.add_argument('--labels', nargs='+', metavar='NAME', help='which labels (default: all that the source offers)')
    parser.add_argument('--labels-file', type=Path, metavar='FILE', help='describes plain folders (default: SOURCE/dataset.json)')
    parser.add_argument(
        '--num-classes',
        type=int,
        metavar='N',
        help='which set of classes: 19 or 7 of cityscapes and synscapes, 40 or 13 of nyuv2',
    )
    parser.add_argument(
        '--depth-range',
        nargs=2,
        type=float,
        metavar=('MIN', 'MAX'),
        help='metres that depth codes span; depth beyond them becomes unknown (default: that of the source)',
    )
    parser.add_argument('--workers', type=int, default=2, metavar='N', help='threads (default: 2)')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    names = [name for name, _ in args.splits or ()]
    if len(set(names)) < len(names):
        parser.error(f'--splits should be different names. Found {" ".join(names)}.')


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.datasets.conversion import convert, open_source
    from mtl_plugins.utils.data_files import printable

    splits = dict(args.splits) if args.splits else None
    opened, left_out = open_source(args.kind, args.source, splits, args.labels, args.labels_file, args.num_classes)
    for name, reason in left_out.items():
        print(printable(f'{name}: left out. {reason}'))
    for name, report in convert(opened, args.out, args.size, args.depth_range, args.workers).items():
        labels = ', '.join(f'{label} {count}' for label, count in report.num_labelled.items())
        print(f'{args.out / name}: {report.num_samples} samples; with labels: {labels}')
        for label, share in report.lost.items():
            print(f'  {100 * share:.2f} % of the known {label} is beyond its range and became unknown')
