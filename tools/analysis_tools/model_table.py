"""Compare systems in one run: parameters by part, FLOPs, peak training memory, speed beside the joint model; as Markdown."""

import argparse
import json
import os
import sys
from pathlib import Path


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'should be a whole number of at least 1. Found {text!r}.')
    return int(text)


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='All models take turns on the same batch, so that a busy machine slows all of them alike; compare ratios, not '
        'times, between machines. Progress goes to stderr. All systems take about 6 minutes on two cores.',
    )
    parser.add_argument('config', nargs='*', metavar='CONFIG', help='configs to compare; by default the main one of each system')
    parser.add_argument('--out-dir', type=Path, metavar='DIR', help='write model_table.md and model_table.json there')
    parser.add_argument('--repeats', type=positive, default=7, help='rounds that count, after one to warm up (default: 7)')
    parser.add_argument('--skip-speed', action='store_true', help='leave out the times')
    parser.add_argument('--amp', action='store_true', help='train under bfloat16 autocast, predict with bfloat16 weights')
    parser.add_argument('--device', default='cpu', help='where models run, e.g. cuda:0 (default: cpu)')
    parser.add_argument('--threads', type=positive, default=2, help='of torch (default: 2)')
    parser.add_argument('--batch-size', type=positive, default=4, help='images of a step (default: 4)')
    parser.add_argument('--size', type=positive, default=256, help='height and width of the images (default: 256)')
    parser.add_argument('--seed', type=int, default=0, help='seed of images and weights (default: 0)')
    args = parser.parse_args()
    refuse_unused(parser, args, not args.skip_speed, 'with --skip-speed', 'repeats')
    return args


def main() -> None:
    args = parse_args()
    import torch

    from benchmarks.model_table import REFERENCE, Setting, default_configs, load_models, measure
    from benchmarks.model_table_document import make_document, to_markdown
    from benchmarks.provenance import ROOT, provenance
    from benchmarks.results import Options
    from mtl_plugins.errors import ConfigError
    from mtl_plugins.utils.files import make_folder, replacing

    if args.device != 'cpu' and not (args.device.startswith('cuda') and torch.cuda.is_available()):
        raise ConfigError(f'`--device` should be cpu, or cuda on a machine with CUDA. Found {args.device}.')
    configs = default_configs()
    if args.config:
        labels = {str(Path(path).resolve()): label for label, path in configs.items()}
        # Times are ratios to the joint model, which therefore always runs.
        reference = {} if args.skip_speed else {REFERENCE: configs[REFERENCE]}
        configs = reference | {labels.get(str(Path(path).resolve()), Path(path).stem): path for path in args.config}
    models = load_models(configs)
    torch.set_num_threads(args.threads)
    options = Options(threads=args.threads, repeats=args.repeats, device=args.device, seed=args.seed)
    if os.getloadavg()[0] > os.cpu_count() / 2 and not args.skip_speed:
        print(f'The machine is busy (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores): expect noise.', file=sys.stderr)
    made = provenance(options)
    setting = Setting(size=args.size, batch_size=args.batch_size, amp=args.amp, speed=not args.skip_speed)
    if args.out_dir:
        make_folder(args.out_dir)
    rows = measure(models, options, setting)
    paths = {label: str(path).removeprefix(f'{ROOT}/') for label, path in configs.items()}
    document = make_document(rows, paths, REFERENCE, setting, made)
    markdown = to_markdown(document)
    print(markdown, end='')
    if args.out_dir:
        for name, text in (('model_table.json', json.dumps(document, indent=1) + '\n'), ('model_table.md', markdown)):
            with replacing(args.out_dir / name) as temporary:
                temporary.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
