"""Serve a trained model over HTTP: a page to drop an image on, POST /predict and GET /health."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_plugins.cli.arguments import positive
from mtl_plugins.cli.trained import add_model_options, check_file

if TYPE_CHECKING:
    import numpy as np


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='curl -F file=@photo.jpg -o out.png localhost:8000/predict',
    )
    add_model_options(parser)
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on; this machine alone by default')
    parser.add_argument('--port', type=int, default=8000, help='port (default: %(default)s)')
    parser.add_argument(
        '--allow-host',
        nargs='+',
        default=[],
        metavar='NAME',
        help='names by which clients call the server, other than localhost and --host; requests for other names are refused, so '
        'that no page of another site reaches it through a browser',
    )
    parser.add_argument('--batch-size', type=positive, default=8, metavar='N', help='images at a time (default: %(default)s)')
    parser.add_argument(
        '--queue-size', type=positive, default=16, metavar='N', help='images that may wait (default: %(default)s)'
    )
    parser.add_argument('--max-megabytes', type=float, default=20, metavar='MB', help='of an upload (default: %(default)g)')
    parser.add_argument('--max-megapixels', type=float, default=16, metavar='MP', help='of an image (default: %(default)g)')
    parser.add_argument(
        '--max-batch-megapixels',
        type=float,
        default=2.1,
        metavar='MP',
        help='that the network gets at a time, after resizing: of an image and of a batch (default: %(default)g: 4 GiB of memory '
        'are enough with ResNet-18)',
    )
    parser.add_argument(
        '--deadline', type=float, default=30, metavar='SECONDS', help='for a prediction, after the upload (default: %(default)g)'
    )
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for name in ('max_megabytes', 'max_megapixels', 'max_batch_megapixels', 'deadline'):
        if not 0 < getattr(args, name) < 1e6:
            parser.error(f'--{name.replace("_", "-")} should be positive. Found {getattr(args, name):g}')
    if not 0 <= args.port < 65536:
        parser.error(f'--port should be in 0..65535. Found {args.port}')


def sample_image() -> 'np.ndarray':
    """Return a generated street, for those who have no photograph at hand."""
    from mtl_plugins.synthetic.streets.street_scenes import render_sample

    return render_sample(0, 'test', 0, (256, 512)).image


def main(args: argparse.Namespace) -> None:
    check_file(args.model)
    from mtl_plugins.apis.inference import MultiTaskInferencer
    from mtl_plugins.deployment.server.app import ANY_ADDRESS, LOOPBACK, Limits, make_app
    from mtl_plugins.deployment.server.connections import make_server

    inferencer = MultiTaskInferencer(
        args.model,
        config=args.config,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        batch_size=args.batch_size,
        short_side=args.short_side,
        max_pixels=int(args.max_batch_megapixels * 1e6),
    )
    limits = Limits(
        int(args.max_megabytes * 2**20), int(args.max_megapixels * 1e6), queue=args.queue_size, deadline=args.deadline
    )
    hosts = {*LOOPBACK, args.host, *args.allow_host, *([ANY_ADDRESS] if args.host in ('0.0.0.0', '::') else [])}
    try:
        make_server(
            make_app(inferencer, limits, hosts, '/'.join(Path(args.model).resolve().parts[-2:]), sample_image),
            args.host,
            args.port,
        ).run()
    except KeyboardInterrupt:
        pass
    # Nothing can stop the batch at work, and Python would wait for its thread.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
