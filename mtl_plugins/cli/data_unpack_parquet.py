"""Unpack the Parquet files of a data set of the Hugging Face Hub: pictures as they are, arrays as .npy, a folder per column."""

import argparse
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='OUT gets SPLIT/COLUMN/<row> with the suffix of its kind, rows counted from 0, and appears when it is complete. '
        'NYUv2Dataset reads what this makes of the NYU Depth V2 sets of the Hub; other sets need their labels in a config or, '
        'for `mtl data convert folders`, in OUT/dataset.json. Needs pyarrow: pip install mtl_plugins[parquet].',
    )
    parser.add_argument('source', metavar='SOURCE', type=Path, help='folder with the Parquet files, also in subfolders')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to make; must be new or empty')
    parser.add_argument('--columns', nargs='+', metavar='NAME', help='which columns (default: all pictures and arrays)')
    return parser


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.datasets.parquet import unpack_parquet

    for split, (rows, columns) in unpack_parquet(args.source, args.out, args.columns).items():
        print(f'{args.out / split}: {rows} rows of {", ".join(columns)}')
