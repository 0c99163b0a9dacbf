"""Compare systems in one run: parameters by part, FLOPs, peak training memory, speed relative to the joint model; as Markdown."""

import argparse
import json
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from mtl_plugins.cli.arguments import positive, refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='All models take turns on the same batch, so that a busy machine slows all of them alike; compare ratios, not '
        'times, between machines. Progress goes to stderr. All systems take about 6 minutes on two cores.',
    )
    parser.add_argument('config', nargs='*', metavar='CONFIG', help='configs to compare; by default the main one of each system')
    parser.add_argument(
        '--out-dir', type=Path, metavar='DIR', help='write model_table.md there, and what was measured as model_table.json'
    )
    parser.add_argument(
        '--stored', type=Path, metavar='FILE', help='print the table of a model_table.json that is there and measure nothing'
    )
    parser.add_argument('--repeats', type=positive, default=7, help='rounds that count, after one to warm up (default: 7)')
    parser.add_argument('--skip-speed', action='store_true', help='leave out the times')
    parser.add_argument('--device', default='cpu', help='where models run, e.g. cuda:0 (default: cpu)')
    parser.add_argument('--threads', type=positive, default=2, help='of torch (default: 2)')
    parser.add_argument('--batch-size', type=positive, default=4, help='images of a step (default: 4)')
    parser.add_argument('--size', type=positive, default=256, help='height and width of the images (default: 256)')
    args = parser.parse_args()
    refuse_unused(parser, args, not args.skip_speed, 'with --skip-speed', 'repeats')
    measuring = ('repeats', 'skip_speed', 'device', 'threads', 'batch_size', 'size')
    refuse_unused(parser, args, not args.stored, 'with --stored', *measuring)
    if args.stored and args.config:
        parser.error('give either configs to measure or --stored')
    return args


def measure_all(args: argparse.Namespace) -> dict:
    """Return settings, provenance and the measurements of each system, as in model_table.json."""
    import torch

    from benchmarks.model_table import REFERENCE, default_configs, load_models, measure
    from benchmarks.results import ROOT, Options, provenance
    from mtl_plugins.utils.files import make_folder

    options = Options(threads=args.threads, repeats=args.repeats, device=args.device)
    options.check()
    configs = default_configs()
    if args.config:
        labels = {str(Path(path).resolve()): label for label, path in configs.items()}
        # Times are ratios to the joint model, which therefore always runs.
        reference = {} if args.skip_speed else {REFERENCE: configs[REFERENCE]}
        configs = reference | {labels.get(str(Path(path).resolve()), Path(path).stem): path for path in args.config}
    models = load_models(configs)
    torch.set_num_threads(args.threads)
    made = provenance(options)
    if args.out_dir:
        make_folder(args.out_dir)  # One that cannot be made ends the tool before anything is measured.
    settings = dict(size=args.size, batch_size=args.batch_size, speed=not args.skip_speed)
    rows = measure(models, options, **settings)
    systems = {label: dict(config=path.removeprefix(f'{ROOT}/'), **rows[label]) for label, path in configs.items()}
    settings |= dict(optimizer='Adam', reference=REFERENCE)
    return dict(schema_version=1, provenance=made, settings=settings, systems=systems)


def main() -> None:
    args = parse_args()
    from benchmarks.model_table import count_other_forms, other_forms_to_text, read_document, to_text
    from mtl_plugins.utils.files import make_folder, save_text

    document = read_document(args.stored) if args.stored else measure_all(args)
    if args.out_dir:
        make_folder(args.out_dir)
        if not args.stored:
            save_text(args.out_dir / 'model_table.json', json.dumps(document, indent=1) + '\n')
    markdown = to_text(document)
    if not args.config:
        markdown += other_forms_to_text(count_other_forms(document['settings']['size']))
    print(markdown, end='')
    if args.out_dir:
        save_text(args.out_dir / 'model_table.md', markdown)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
