"""Predict one's own images with a trained model: what it knows of them as pictures, arrays, videos and points in space."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_plugins.cli.arguments import refuse_unused
from mtl_plugins.cli.trained import add_model_options, check_file

if TYPE_CHECKING:
    from mtl_plugins.apis.inference import MultiTaskInferencer
    from mtl_plugins.apis.inference.output import PredictionWriter

# Threads that write files.
_WRITERS = 2


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Files that cannot be used are named and left out; the exit status is then 1. Ctrl-C ends a camera.',
    )
    add_model_options(parser)
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='image, folder, pattern such as "photos/*.jpg", list of paths (.txt), video, or camera:0',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for the results')
    parser.add_argument(
        '--save',
        nargs='+',
        choices=['pictures', 'side-by-side', 'png', 'npy', 'points'],
        default=['pictures', 'side-by-side'],
        help='pictures: a label over the image or in colours; png: class ids, depth in millimetres, ...; npy: the values; '
        'points: PLY and a page in 3-D (default: pictures side-by-side)',
    )
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='override entries of --config')
    parser.add_argument('--batch-size', type=int, default=4, metavar='N', help='images or tiles at a time (default: %(default)s)')
    parser.add_argument('--tta', action='store_true', help='merge the scaled and mirrored views of `tta_model` in the config')
    parser.add_argument('--probabilities', action='store_true', help='those of classes, too, with --save npy')
    parser.add_argument('--tile', type=int, metavar='N', help='predict larger images in tiles of N x N pixels')
    parser.add_argument('--overlap', type=int, metavar='N', help='of tiles, a quarter by default')
    parser.add_argument(
        '--max-batch-megapixels',
        type=float,
        metavar='MP',
        help='that the network gets at a time; larger images are skipped, batches become smaller (default: 4.2)',
    )
    parser.add_argument('--max-frames', type=int, metavar='N', help='of each video or camera')
    parser.add_argument(
        '--intrinsics', type=float, nargs=4, metavar=('FX', 'FY', 'CX', 'CY'), help='of the camera, in pixels, for points'
    )
    parser.add_argument(
        '--fov', type=float, default=60.0, metavar='DEGREES', help='without: angle of view (default: %(default)g)'
    )
    parser.add_argument('--max-depth', type=float, default=80.0, metavar='M', help='farthest points (default: %(default)g)')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.cfg_options and not args.config:
        parser.error('--cfg-options should come with --config')
    if args.probabilities and 'npy' not in args.save:
        parser.error('--probabilities should come with --save npy')
    refuse_unused(parser, args, 'points' in args.save, 'without --save points', 'intrinsics', 'fov', 'max_depth')
    refuse_unused(parser, args, args.intrinsics is None, 'with --intrinsics', 'fov')


def write_predictions(
    inferencer: 'MultiTaskInferencer', writer: 'PredictionWriter', inputs: Sequence[str], max_frames: int | None = None
) -> int:
    """Predict all images of paths and cameras, which Ctrl-C ends, and write the files, which threads do beside the network.

    Returns:
        The number of files that could not be used; each has its sentence on standard error.
    """
    from rich.console import Console

    from mtl_plugins.apis.inference.sources import CAMERA, count_images
    from mtl_plugins.utils.cli import progress_bar
    from mtl_plugins.utils.data_files import printable
    from mtl_plugins.utils.files import shorten_paths
    from mtl_plugins.utils.threads import map_in_order

    total, skipped, done, start = count_images(inputs), 0, 0, time.perf_counter()
    with progress_bar() as progress, writer:
        bar = progress.add_task('images', total=total)

        def skip(sentence: str) -> None:
            nonlocal skipped
            skipped += 1
            progress.advance(bar)
            print(shorten_paths(f'skipped: {printable(sentence)}'), file=sys.stderr)

        predictions = inferencer.stream(inputs, on_error=skip, max_frames=max_frames)
        try:
            for prediction, frames in map_in_order(lambda each: (each, writer.write(each)), predictions, _WRITERS):
                writer.add_frame(prediction, frames)
                done += 1
                progress.advance(bar)
        except KeyboardInterrupt:
            if not any(map(CAMERA.fullmatch, inputs)):
                raise
    seconds = time.perf_counter() - start
    found = f'{done} image{"" if done == 1 else "s"}'
    left = f'; {skipped} file{"" if skipped == 1 else "s"} could not be used' if skipped else ''
    text = f'Predicted {found} in {seconds:.1f} s ({done / seconds:.1f} images/s) into {writer.out.absolute()}{left}.'
    Console().print(shorten_paths(text), highlight=False, soft_wrap=True)
    return skipped


def main(args: argparse.Namespace) -> int:
    check_file(args.model)
    from mtl_plugins.apis.inference import MultiTaskInferencer
    from mtl_plugins.apis.inference.output import PredictionWriter
    from mtl_plugins.config.load import parse_options
    from mtl_plugins.visualization.point_cloud import Intrinsics

    inferencer = MultiTaskInferencer(
        args.model,
        config=args.config,
        cfg_options=parse_options(args.cfg_options),
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        tta=args.tta,
        probabilities=args.probabilities,
        batch_size=args.batch_size,
        tile=args.tile,
        overlap=args.overlap,
        short_side=args.short_side,
        **({} if args.max_batch_megapixels is None else dict(max_pixels=int(args.max_batch_megapixels * 1e6))),
    )
    writer = PredictionWriter(
        args.out,
        inferencer.labels,
        args.save,
        intrinsics=Intrinsics(*args.intrinsics) if args.intrinsics else None,
        angle=args.fov,
        max_depth=args.max_depth,
    )
    return 1 if write_predictions(inferencer, writer, args.inputs, args.max_frames) else 0
