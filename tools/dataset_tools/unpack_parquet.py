"""Unpack the Parquet files of a data set of the Hugging Face Hub: pictures as they are, arrays as .npy, a folder per column."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='OUT gets SPLIT/COLUMN/<row> with the suffix of its kind, rows counted from 0, and appears when it is complete. '
        'NYUv2Dataset reads what this makes of the NYU Depth V2 sets of the Hub; other sets need their labels in a config or, '
        'for convert_dataset.py folders, in OUT/dataset.json. Needs pyarrow: pip install mtl_plugins[parquet].',
    )
    parser.add_argument('source', metavar='SOURCE', type=Path, help='folder with the Parquet files, also in subfolders')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to make; must be new or empty')
    parser.add_argument('--columns', nargs='+', metavar='NAME', help='which columns (default: all pictures and arrays)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from tqdm import tqdm

    from mtl_plugins.datasets.parquet import unpack_parquet

    reports = unpack_parquet(
        args.source, args.out, args.columns, lambda rows, split: tqdm(rows, unit='row', desc=split, disable=None)
    )
    for split, (rows, columns) in reports.items():
        print(f'{args.out / split}: {rows} rows of {", ".join(columns)}')


if __name__ == '__main__':
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
