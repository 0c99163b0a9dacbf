"""Serve a trained model over HTTP: a page to drop an image on, POST /predict, GET /health and /metrics."""

import argparse
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" -o out.png localhost:8000/predict',
    )
    parser.add_argument('model', metavar='CHECKPOINT', help='checkpoint of a training, or an exported model')
    parser.add_argument('--config', help='config of the checkpoint, which is run; by default the stored one, which is only read')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on; this machine alone by default')
    parser.add_argument('--port', type=int, default=8000, help='port (default: %(default)s)')
    parser.add_argument('--device', help='such as cpu or cuda:1; the GPU by default, if there is one')
    parser.add_argument('--precision', choices=['float32', 'bfloat16', 'float16'], default='float32', help='of the weights')
    parser.add_argument(
        '--backend',
        choices=['torch', 'compile', 'onnx', 'openvino'],
        default='torch',
        help='what computes: PyTorch, torch.compile, ONNX Runtime or OpenVINO (default: %(default)s)',
    )
    parser.add_argument('--batch-size', type=int, default=8, metavar='N', help='images at a time (default: %(default)s)')
    parser.add_argument('--short-side', type=int, metavar='N', help='resize images first: N pixels on the shorter side')
    parser.add_argument('--queue-size', type=int, default=16, metavar='N', help='images that may wait (default: %(default)s)')
    parser.add_argument('--max-megabytes', type=float, default=20, metavar='MB', help='of an upload (default: %(default)g)')
    parser.add_argument('--max-megapixels', type=float, default=16, metavar='MP', help='of an image (default: %(default)g)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import uvicorn

    from mtl_plugins.apis.inference import MultiTaskInferencer
    from mtl_plugins.apis.serving.app import Limits, make_app

    inferencer = MultiTaskInferencer(
        args.model,
        config=args.config,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        batch_size=args.batch_size,
        short_side=args.short_side,
    )
    limits = Limits(int(args.max_megabytes * 2**20), int(args.max_megapixels * 1e6), queue=args.queue_size)
    # Connections beyond what may wait and arrive get 503 before anything is read.
    uvicorn.run(make_app(inferencer, limits), host=args.host, port=args.port, limit_concurrency=4 * limits.queue + 32)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
