"""Draw where a depth head puts its bins: image, prediction, and the bins under the histogram of depths."""

import argparse
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Give images, or samples of a data root: the histogram of their labels is drawn too.',
    )
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('images', nargs='*', metavar='IMAGE', help='image files')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='picture to write, .png or .jpg')
    parser.add_argument('--data-root', help='folder with train/, val/, test/, instead of images')
    parser.add_argument('--split', default='val', help='split of the data root (default: val)')
    parser.add_argument('--indices', type=int, nargs='+', default=[0, 1, 2], help='samples of the split (default: 0 1 2)')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='override config entries, as in tools/train.py')
    # Images may follow the options, too.
    args = parser.parse_intermixed_args()
    if bool(args.images) == bool(args.data_root):
        parser.error('give either images or --data-root')
    if args.out.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        parser.error(f'--out should end in .png or .jpg. Found {args.out}')
    refuse_unused(parser, args, args.data_root, 'without --data-root', 'split', 'indices')
    return args


def main() -> None:
    args = parse_args()
    from PIL import Image

    from mtl_plugins.config.load import load_config, parse_options
    from mtl_plugins.lab.analysis.bins import read_images, read_samples
    from mtl_plugins.models.decode_heads.bins_depth_heads import require_bins
    from mtl_plugins.models.utils.weights import load_pretrained
    from mtl_plugins.registry import MODELS
    from mtl_plugins.utils.files import replacing
    from mtl_plugins.visualization.bins import render_bins

    config = load_config(args.config, parse_options(args.cfg_options))
    # The checkpoint replaces what `init_cfg` would load.
    model = MODELS.build(config.model).eval()
    model_bins = require_bins(model)
    load_pretrained(model, args.checkpoint)
    if args.data_root:
        rows = read_samples(args.data_root, args.split, args.indices, model_bins.label)
    else:
        rows = read_images(args.images)
    for row in rows:
        row['prediction'], row['bins'] = model_bins.predict(row['image'])
    title = f'{type(model_bins.head).__name__}, {model_bins.head.scale.spacing} spacing'
    kind = model.data_preprocessor.labels[model_bins.label]
    picture = render_bins(rows, kind, model_bins.value_range, title)
    with replacing(args.out) as temporary:
        file_format = 'PNG' if args.out.suffix.lower() == '.png' else 'JPEG'
        Image.fromarray(picture).save(temporary, format=file_format, **({} if file_format == 'PNG' else dict(quality=88)))
    print(f'{args.out}: {len(rows)} samples, {len(rows[0]["bins"])} bins')


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
