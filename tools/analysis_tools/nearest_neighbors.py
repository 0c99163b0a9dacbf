"""Draw validation images beside the training images whose features are nearest by cosine."""

import argparse
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='A green frame means the same class as the query, a red one another. Without CHECKPOINT the initial weights of '
        'the config are used. What is not given is as in FeatureHook of the config.',
    )
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='picture to write, .png or .jpg')
    parser.add_argument('--num-queries', type=int, default=8, help='validation images, classes taking turns (default: 8)')
    parser.add_argument('--indices', type=int, nargs='+', help='these images of the validation split instead')
    parser.add_argument('--k', type=int, default=8, help='neighbours of each (default: 8)')
    parser.add_argument('--data-config', metavar='CONFIG', help='config with the images; CONFIG by default')
    parser.add_argument('--data-root', help='folder of the images (or set MTL_DATA_ROOT)')
    parser.add_argument('--image-size', type=int, metavar='PIXELS', help='side of the images')
    parser.add_argument('--num-train', type=int, help='training images at most, 0 for all')
    parser.add_argument('--device', default='cpu', help='where the model runs, e.g. cuda:0 (default: cpu)')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='override config entries, as in tools/train.py')
    args = parser.parse_args()
    if args.out.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        parser.error(f'--out should end in .png or .jpg. Found {args.out}')
    if args.num_queries < 1 or args.k < 1:
        parser.error(f'--num-queries and --k should be at least 1. Found {args.num_queries} and {args.k}')
    refuse_unused(parser, args, args.indices is None, 'with --indices', 'num_queries')
    return args


def main() -> None:
    args = parse_args()
    from mtl_plugins.lab.features.scoring import find_neighbours, load_configs
    from mtl_plugins.visualization.plots import write_picture

    config, data_config = load_configs(args.config, args.data_config, args.cfg_options, args.data_root)
    picture, summary = find_neighbours(
        config,
        data_config,
        args.checkpoint,
        image_size=args.image_size,
        num_train=args.num_train,
        num_queries=args.num_queries,
        indices=args.indices,
        k=args.k,
        device=args.device,
    )
    write_picture(args.out, picture)
    print(f'{args.out}: {summary}')


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
