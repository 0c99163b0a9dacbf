"""Draw how similar each pixel of an image is to each class, and the probability of the class."""

import argparse
from pathlib import Path

from mtl_plugins.cli.arguments import config_options
from mtl_plugins.cli.trained import HELP, open_models, split_models


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, parents=[config_options(shared=('device',))])
    parser.add_argument('model', nargs='+', metavar='MODEL|IMAGE', help=f'{HELP}; then an image file')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='picture to write, .png or .jpg')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='classes to draw (default: all)')
    # The image may follow the options, too.
    parser.parse_args = parser.parse_intermixed_args
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    args.models, images = split_models(parser, args.model, most=1)
    if len(images) != 1:
        parser.error(f'give a model and one image. Found {" ".join(args.model)}')
    (args.image,) = images
    if args.out.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        parser.error(f'--out should end in .png or .jpg. Found {args.out}')


def main(args: argparse.Namespace) -> None:
    ((config, checkpoint, advice),) = open_models(args)
    from mtl_plugins.engine.pictures import draw_class_maps
    from mtl_plugins.labels.decoding import decode_photograph, read_bytes
    from mtl_plugins.loading import load_model
    from mtl_plugins.visualization.plots import write_picture

    model = load_model(config, checkpoint, advice).eval()
    write_picture(args.out, draw_class_maps(model, decode_photograph(read_bytes(args.image), args.image), args.classes))
    print(f'{args.out}: similarity and probability of {len(args.classes) if args.classes else "all"} classes')
