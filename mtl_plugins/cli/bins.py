"""Draw where a depth head puts its bins: image, prediction, and the bins under the histogram of depths."""

import argparse
from pathlib import Path

from mtl_plugins.cli.arguments import config_options, refuse_unused
from mtl_plugins.cli.trained import HELP, open_models, split_models


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[config_options('of the data of the config, instead of images', shared=('device',))],
        epilog='Give images, or a data root: then samples are drawn with the histogram of their labels, too.',
    )
    parser.add_argument('model', nargs='+', metavar='MODEL|IMAGE', help=f'{HELP}; then image files')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='picture to write, .png or .jpg')
    parser.add_argument('--split', help='split with labels; that of the validation by default')
    parser.add_argument('--indices', type=int, nargs='+', default=[0, 1, 2], help='samples of the split (default: 0 1 2)')
    # Images may follow the options, too.
    parser.parse_args = parser.parse_intermixed_args
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    args.models, args.images = split_models(parser, args.model, most=1)
    if bool(args.images) == bool(args.data_root):
        parser.error('give either images or --data-root')
    if args.out.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        parser.error(f'--out should end in .png or .jpg. Found {args.out}')
    refuse_unused(parser, args, args.data_root, 'without --data-root', 'split', 'indices')


def main(args: argparse.Namespace) -> None:
    ((config, checkpoint, advice),) = open_models(args, ['val_dataloader'] if args.data_root else [])
    from mtl_plugins.errors import ConfigError
    from mtl_plugins.lab.analysis.analysis import check_indices
    from mtl_plugins.lab.plots.bins import render_bins
    from mtl_plugins.lab.samples import build_loader, predict_samples
    from mtl_plugins.labels.decoding import decode_photograph, read_bytes
    from mtl_plugins.loading import load_model
    from mtl_plugins.models.decode_heads.bins_depth_heads import find_bins
    from mtl_plugins.visualization.plots import write_picture

    model = load_model(config, checkpoint, advice).eval()
    model_bins = find_bins(model)
    if model_bins is None:
        raise ConfigError(
            'The model should have a depth head with bins, as AdaptiveDepthHead or FixedBinsDepthHead. Found '
            f'{type(model.decode_head).__name__} without one.'
        )
    if args.data_root:
        loader = build_loader([model], [config], args.split)
        check_indices(args.indices, len(loader.dataset))
        samples = predict_samples([], loader, args.indices)
        name = model_bins.label
        rows = [dict(image=each.image, **({'label': each.values[name]} if name in each.values else {})) for each in samples]
    else:
        rows = [dict(image=decode_photograph(read_bytes(path), path)) for path in args.images]
    for row in rows:
        row['prediction'], row['bins'] = model_bins.predict(row['image'])
    title = f'{type(model_bins.head).__name__}, {model_bins.head.scale.spacing} spacing'
    kind = model.data_preprocessor.labels[model_bins.label]
    write_picture(args.out, render_bins(rows, kind, model_bins.head.scale.depth_range, title))
    print(f'{args.out}: {len(rows)} samples, {len(rows[0]["bins"])} bins')
