"""Draw validation images next to the training images whose features are nearest by cosine."""

import argparse
from pathlib import Path

from mtl_plugins.cli.arguments import config_options, positive, refuse_unused
from mtl_plugins.cli.trained import HELP, find_weights


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[config_options('of the images')],
        epilog='A green frame means the same class as the query, a red one another. Of a config alone the initial weights '
        'are used. Options that you leave out are those of FeatureHook in the config.',
    )
    parser.add_argument('model', nargs='+', metavar='MODEL', help=f'{HELP}; or a config alone')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='picture to write, .png or .jpg')
    parser.add_argument('--num-queries', type=positive, default=8, help='validation images, classes taking turns (default: 8)')
    parser.add_argument('--indices', type=int, nargs='+', help='these images of the validation split instead')
    parser.add_argument('--k', type=positive, default=8, help='neighbours of each (default: 8)')
    parser.add_argument('--data-config', metavar='CONFIG', help='config with the images, if not that of the model')
    parser.add_argument('--image-size', type=int, metavar='PIXELS', help='side of the images')
    parser.add_argument('--num-train', type=int, help='training images at most, 0 for all')
    parser.add_argument('--device', default='cpu', help='where the model runs, e.g. cuda:0 (default: cpu)')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    find_weights(parser, args)
    if args.out.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        parser.error(f'--out should end in .png or .jpg. Found {args.out}')
    refuse_unused(parser, args, args.indices is None, 'with --indices', 'num_queries')


def main(args: argparse.Namespace) -> None:
    import numpy as np

    from mtl_plugins.lab.analysis.analysis import check_indices
    from mtl_plugins.lab.features.feature_scores import UNKNOWN
    from mtl_plugins.lab.features.pictures import choose_queries, draw_neighbours
    from mtl_plugins.lab.features.subject import Subject
    from mtl_plugins.visualization.plots import write_picture

    subject = Subject(args)
    images, indices = subject.datasets['val'], args.indices
    check_indices(indices, len(images))
    model = subject.build_model()
    if indices is None:
        labels = [images.get_data_info(index).get('label', UNKNOWN) for index in range(len(images))]
        indices = choose_queries(np.array(labels), args.num_queries)
    train, val = subject.extract(model, 'train'), subject.extract(model, 'val', indices)
    title = f'Nearest training images by cosine, {subject.weights}'
    write_picture(args.out, draw_neighbours(train, val, np.arange(len(indices)), args.k, title))
    number = len(train.indices)
    print(f'{args.out}: {len(indices)} queries, {min(args.k, number)} neighbours of {number} images')
