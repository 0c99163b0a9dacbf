"""Measure speed next to the peers, in one run: data pipeline, training step, inference, metrics; and, by itself, all that matters
on a GPU."""

import argparse
import json
import sys
from pathlib import Path

BENCHMARKS = ('data', 'train', 'infer', 'eval')


def parse_args() -> argparse.Namespace:
    from mtl_plugins.cli.arguments import positive, refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Contenders take turns, so that a busy machine slows all of them alike; compare ratios, not times, between '
        'machines. Peers: segmentation-models-pytorch (pip install -e .[benchmark]) and mmseg. What each contender does: '
        'docs/benchmarks.md.',
    )
    parser.add_argument('benchmark', choices=[*BENCHMARKS, 'all', 'gpu'], help='what to measure; all is all but gpu')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write raw numbers, ratios and provenance to this file')
    parser.add_argument('--markdown', type=Path, metavar='OUT', help='write ratios and provenance as a Markdown table')
    parser.add_argument('--threads', type=positive, default=2, help='of torch and loaders (default: 2)')
    parser.add_argument('--repeats', type=positive, help='rounds that count, after warming up (default: 11; 2 with --quick)')
    parser.add_argument('--quick', action='store_true', help='tiny inputs: only checks that everything runs')
    parser.add_argument('--device', help='device of models in train, infer and gpu (default: cpu; cuda:0 in gpu)')
    parser.add_argument('--compile', action='store_true', help='gpu: torch.compile takes part, too')
    parser.add_argument('--seed', type=int, default=0, help='seed of scenes and weights (default: 0)')
    parser.add_argument(
        '--processor-time',
        action='store_true',
        help='time train and infer by processor seconds, on a machine that others use as well; with --threads 1, as waiting '
        'threads count too',
    )
    args = parser.parse_args()
    refuse_unused(parser, args, args.benchmark == 'gpu', 'on another benchmark than gpu', 'compile')
    return args


def main() -> None:
    args = parse_args()
    import importlib

    import torch

    from benchmarks.results import Options, Result, print_result, provenance, ratios_in_markdown
    from mtl_plugins.errors import ConfigError
    from mtl_plugins.utils.files import save_text

    device = args.device or ('cuda:0' if args.benchmark == 'gpu' else 'cpu')
    repeats = args.repeats or (2 if args.quick else 11)
    options = Options(args.threads, repeats, args.quick, device, args.seed, args.processor_time)
    options.check()
    for option, path in (('--json', args.json), ('--markdown', args.markdown)):
        if path and not path.parent.is_dir():
            raise ConfigError(f'`{option}` should be in an existing folder. Found {path}.')
    if args.processor_time and device != 'cpu':
        raise ConfigError(f'`--processor-time` needs `--device cpu`: no other device counts in it. Found {device}.')
    torch.set_num_threads(args.threads)
    document = dict(schema_version=1, provenance=provenance(options), benchmarks=[])

    def write(result: Result, more: str = '') -> None:
        document['benchmarks'] = [*(each for each in document['benchmarks'] if each['name'] != result.name), result.to_dict()]
        texts = json.dumps(document, indent=1) + '\n', ratios_in_markdown(document) + more
        for path, text in zip((args.json, args.markdown), texts, strict=True):
            if path:
                save_text(path, text)

    if args.benchmark == 'gpu':
        from benchmarks import gpu_benchmark

        result = gpu_benchmark.run(options, lambda done: write(done, gpu_benchmark.summary_in_markdown(done)), args.compile)
        print_result(result.to_dict())
        print(gpu_benchmark.summary_in_markdown(result))
        return
    for name in BENCHMARKS if args.benchmark == 'all' else (args.benchmark,):
        result = importlib.import_module(f'benchmarks.{name}_benchmark').run(options)
        print_result(result.to_dict())
        # After each: an interrupted run leaves what it has.
        write(result)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    # Peers have it as they come, so that this has it, too.
    run_tool(main, keep_memory=False)
