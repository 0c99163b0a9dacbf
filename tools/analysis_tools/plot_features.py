"""Draw the t-SNE of each validation of a run, and a strip of them over the epochs, from the features that FeatureHook saved."""

import argparse
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Colours are classes, which the training did not see. Each embedding starts from the one before, so that a class '
        'stays where it was unless its features moved. Distances between clusters mean little.',
    )
    parser.add_argument('folder', type=Path, help='work dir of a run, or its folder "features"')
    parser.add_argument(
        '--out-dir', type=Path, metavar='DIR', help='where the pictures go; the folder of the features by default'
    )
    parser.add_argument('--perplexity', type=float, default=30.0, help='neighbours that an image minds (default: 30)')
    parser.add_argument('--max-panels', type=int, default=10, help='states of the network in the strip (default: 10)')
    parser.add_argument('--strip-only', action='store_true', help='no picture of each state')
    parser.add_argument('--seed', type=int, default=0, help='of t-SNE (default: 0)')
    args = parser.parse_args()
    if args.perplexity <= 0:
        parser.error(f'--perplexity should be positive. Found {args.perplexity}')
    if args.max_panels < 1:
        parser.error(f'--max-panels should be at least 1. Found {args.max_panels}')
    return args


def main() -> None:
    args = parse_args()
    from mtl_plugins.lab.features.feature_record import FOLDER, read_records
    from mtl_plugins.lab.features.feature_report import draw_embedding, draw_strip, embed_all
    from mtl_plugins.utils.files import make_folder
    from mtl_plugins.visualization.plots import write_picture

    folder = args.folder / FOLDER if (args.folder / FOLDER).is_dir() else args.folder
    records = embed_all(read_records(folder), args.max_panels, perplexity=args.perplexity, seed=args.seed)
    out_dir = args.out_dir or folder
    make_folder(out_dir)
    pictures = {'tsne_strip.png': draw_strip(records)}
    if not args.strip_only:
        pictures |= {f'tsne_{record.stem}.png': draw_embedding(record) for record in records}
    for name, picture in pictures.items():
        write_picture(out_dir / name, picture)
        print(out_dir / name)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
