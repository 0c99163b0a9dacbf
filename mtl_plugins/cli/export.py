"""Export a trained model as ONNX or OpenVINO, proved to compute the same."""

import argparse
from functools import partial
from pathlib import Path

from mtl_plugins.cli.arguments import config_options, image_size, positive, refuse_unused
from mtl_plugins.cli.trained import HELP, find_model, open_models


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[config_options('with train/ and val/, for int8')],
        epilog='By default a file takes uint8 RGB images (N, H, W, 3) of any number and size and gives the values of each label '
        'by name. It is written only if it agrees with the model on three batches of generated images.',
    )
    parser.add_argument('model', nargs='+', metavar='MODEL', help=HELP)
    parser.add_argument('--format', choices=['onnx', 'openvino'], required=True, help='what to write')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='the file: .onnx or .xml')
    parser.add_argument(
        '--precision',
        choices=['float32', 'bfloat16', 'float16', 'int8'],
        default='float32',
        help='in which the network computes (default: float32); int8 reads training and validation images',
    )
    parser.add_argument('--size', type=image_size, metavar='HxW', help='for images of this size alone')
    parser.add_argument('--batch-size', type=positive, metavar='N', help='for this number of images alone')
    parser.add_argument('--calibration-images', type=positive, default=100, metavar='N', help='for int8 (default: 100)')
    parser.add_argument(
        '--max-loss', type=float, default=1.0, metavar='POINTS', help='how much worse int8 may score on validation (default: 1)'
    )
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    find_model(parser, args)
    is_int8 = args.precision == 'int8'
    if is_int8 and args.format == 'onnx':
        parser.error('--precision int8 should come with --format openvino')
    refuse_unused(parser, args, is_int8, 'without --precision int8', 'calibration_images', 'max_loss', 'data_root')


def main(args: argparse.Namespace) -> None:
    is_int8 = args.precision == 'int8'
    ((config, checkpoint, advice),) = open_models(args, ['val_dataloader'] if is_int8 else [])
    from mtl_plugins.deployment.export import SUFFIXES, check_format, export, provenance
    from mtl_plugins.deployment.runtimes import describe
    from mtl_plugins.errors import ConfigError
    from mtl_plugins.lab.int8 import load_calibration, refuse_losses
    from mtl_plugins.loading import load_model

    check_format(args.format, args.precision)
    if args.out.suffix != SUFFIXES[args.format]:
        raise ConfigError(f"`--out` of {args.format} should end with {SUFFIXES[args.format]}. Found '{args.out}'.")
    model = load_model(config, checkpoint, advice).eval()
    description = describe(
        model,
        precision=args.precision,
        size=args.size,
        batch=args.batch_size,
        made=provenance(config, checkpoint),
    )
    if is_int8:
        calibration = load_calibration(config, model, args.calibration_images, args.max_loss)
        export(model, description, args.out, calibration.images, partial(refuse_losses, model, calibration=calibration))
    else:
        export(model, description, args.out)
    written = [args.out, *([args.out.with_suffix('.bin')] if args.format == 'openvino' else [])]
    print(f'Wrote {" and ".join(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)" for path in written)}')
