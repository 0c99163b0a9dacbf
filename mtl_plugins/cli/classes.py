"""Draw how similar each pixel of an image is to each class, and the probability of the class."""

import argparse
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('image', help='image file')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='picture to write, .png or .jpg')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='classes to draw (default: all)')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='override config entries')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.out.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        parser.error(f'--out should end in .png or .jpg. Found {args.out}')


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.config.load import load_config, parse_options
    from mtl_plugins.engine.pictures import draw_class_maps
    from mtl_plugins.labels.decoding import decode_photograph, read_bytes
    from mtl_plugins.loading import load_model
    from mtl_plugins.visualization.plots import write_picture

    config = load_config(args.config, parse_options(args.cfg_options))
    model = load_model(config, args.checkpoint).eval()
    write_picture(args.out, draw_class_maps(model, decode_photograph(read_bytes(args.image), args.image), args.classes))
    print(f'{args.out}: similarity and probability of {len(args.classes) if args.classes else "all"} classes')
