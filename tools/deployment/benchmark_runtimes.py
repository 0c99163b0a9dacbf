"""Compare the runtimes of a trained model in one run: speed and accuracy, both compared with eager PyTorch."""

import argparse
import json
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from mtl_plugins.cli.arguments import config_options, image_size, positive

    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[config_options('with train/ and val/')],
        epilog='The runtimes take turns on the same images, so that a busy machine slows all of them alike; compare ratios, not '
        'times. Scores and int8 need a data set; without one they are left out.',
    )
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--only', nargs='+', metavar='TEXT', help='runtimes whose name holds one of these, such as OpenVINO int8')
    parser.add_argument('--size', type=image_size, default=(256, 512), metavar='HxW', help='of the images (default: 256x512)')
    parser.add_argument('--batch-size', type=positive, default=1, metavar='N', help='images per call (default: 1)')
    parser.add_argument('--threads', type=positive, default=2, help='of every runtime (default: 2)')
    parser.add_argument('--repeats', type=positive, default=15, help='rounds that count (default: 15)')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write all numbers and where they were made to this file')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import torch

    from benchmarks.results import Options, provenance
    from benchmarks.runtimes import benchmark, print_benchmark
    from mtl_plugins.config.load import load_config, parse_options
    from mtl_plugins.loading import load_model
    from mtl_plugins.utils.files import save_text

    config = load_config(args.config, parse_options(args.cfg_options), args.data_root)
    model = load_model(config, args.checkpoint).eval()
    torch.set_num_threads(args.threads)
    options = Options(threads=args.threads, repeats=args.repeats)
    options.check()
    made = provenance(options)
    measured = benchmark(model, config, options, size=args.size, batch_size=args.batch_size, only=args.only)
    document = dict(provenance=made, config=args.config, **measured)
    print_benchmark(document)
    if args.json:
        save_text(args.json, json.dumps(document, indent=1) + '\n')


if __name__ == '__main__':
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT), str(ROOT / 'tools/analysis_tools')]
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
