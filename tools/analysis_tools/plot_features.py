"""Draw the t-SNE of each validation of a run, and a strip of them over the epochs, from the features that FeatureHook saved."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import positive

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Colours are classes, which the training did not see. Each embedding starts from the one before, so that a class '
        'stays where it was unless its features moved. Distances between clusters mean little.',
    )
    parser.add_argument('folder', type=Path, help='work dir of a run, or its folder "features"')
    parser.add_argument('--out-dir', type=Path, metavar='DIR', help='for the pictures; the folder of the features by default')
    parser.add_argument('--perplexity', type=float, default=30.0, help='neighbours that an image minds (default: 30)')
    parser.add_argument('--max-panels', type=positive, default=10, help='states of the network in the strip (default: 10)')
    args = parser.parse_args()
    if args.perplexity <= 0:
        parser.error(f'--perplexity should be positive. Found {args.perplexity}')
    return args


def main() -> None:
    args = parse_args()
    from mtl_plugins.errors import DataNotFoundError
    from mtl_plugins.lab.features.pictures import FOLDER, draw_embedding, draw_strip, embed_all, read_records
    from mtl_plugins.utils.files import make_folder
    from mtl_plugins.visualization.plots import write_picture

    folder = args.folder / FOLDER if (args.folder / FOLDER).is_dir() else args.folder
    records = embed_all(read_records(folder), args.max_panels, args.perplexity)
    if not records:
        raise DataNotFoundError(f'{folder} holds no features (*.npz). FeatureHook writes them into <work dir>/features.')
    out_dir = args.out_dir or folder
    make_folder(out_dir)
    pictures = {'tsne_strip.png': draw_strip(records)}
    pictures |= {f'tsne_{record.stem}.png': draw_embedding(record) for record in records}
    for name, picture in pictures.items():
        write_picture(out_dir / name, picture)
        print(out_dir / name)


if __name__ == '__main__':
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
