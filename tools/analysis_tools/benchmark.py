"""Measure speed and memory beside the peers, in one run: data pipeline, training step, inference, metrics, submission; the
memory of attention; the cost of task balancing; and all that matters on a GPU, by itself."""

import argparse
import json
import os
import sys
from pathlib import Path

BENCHMARKS = ('data', 'train', 'infer', 'eval', 'submit', 'attention', 'balancing')


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'should be a whole number of at least 1. Found {text!r}.')
    return int(text)


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import refuse_unused

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Contenders take turns, so that a busy machine slows all of them alike; compare ratios, not times, between '
        'machines. Peers: segmentation-models-pytorch (pip install -e .[benchmark]), mmseg, PIL. What each contender does: '
        'docs/benchmarks.md.',
    )
    parser.add_argument('benchmark', choices=[*BENCHMARKS, 'all', 'gpu'], help='what to measure; all is all but gpu')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write raw numbers, ratios and provenance to this file')
    parser.add_argument('--markdown', type=Path, metavar='OUT', help='write ratios and provenance as a Markdown table')
    parser.add_argument('--threads', type=positive, default=2, help='of torch, loaders and writer (default: 2)')
    parser.add_argument('--repeats', type=positive, help='rounds that count, after warming up (default: 11; 2 with --quick)')
    parser.add_argument('--quick', action='store_true', help='tiny inputs: only checks that everything runs')
    parser.add_argument(
        '--device', help='device of models in train, infer, attention, balancing and gpu (default: cpu; cuda:0 in gpu)'
    )
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

    from benchmarks.provenance import provenance
    from benchmarks.results import Options, Result
    from benchmarks.tables import print_result, ratios_in_markdown
    from mtl_plugins.errors import ConfigError
    from mtl_plugins.utils.files import replacing

    args.device = args.device or ('cuda:0' if args.benchmark == 'gpu' else 'cpu')
    if args.device != 'cpu' and not (args.device.startswith('cuda') and torch.cuda.is_available()):
        raise ConfigError(f'`--device` should be cpu, or cuda on a machine with CUDA. Found {args.device}.')
    for option, path in (('--json', args.json), ('--markdown', args.markdown)):
        if path and not path.parent.is_dir():
            raise ConfigError(f'`{option}` should lie in an existing folder. Found {path}.')
    repeats = args.repeats or (2 if args.quick else 11)
    if args.processor_time and args.device != 'cpu':
        raise ConfigError(f'`--processor-time` needs `--device cpu`: no other device counts in it. Found {args.device}.')
    options = Options(args.threads, repeats, args.quick, args.device, args.seed, args.processor_time)
    torch.set_num_threads(args.threads)
    if os.getloadavg()[0] > os.cpu_count() / 2:
        print(f'The machine is busy (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores): expect noise.', file=sys.stderr)
    made = provenance(options)

    def write(results: list[dict], more_tables: list[str]) -> None:
        document = dict(schema_version=1, provenance=made, benchmarks=results)
        markdown = ratios_in_markdown(document) + ''.join(more_tables)
        for path, text in ((args.json, json.dumps(document, indent=1) + '\n'), (args.markdown, markdown)):
            if path:
                with replacing(path) as temporary:
                    temporary.write_text(text, encoding='utf-8')

    if args.benchmark == 'gpu':
        from benchmarks import gpu_benchmark

        def save(result: Result) -> None:
            write([result.to_dict()], [gpu_benchmark.summary_in_markdown(result.to_dict())])

        result = gpu_benchmark.run(options, save, args.compile).to_dict()
        print_result(result)
        print(gpu_benchmark.summary_in_markdown(result))
        return
    results, more_tables = [], []
    for name in BENCHMARKS if args.benchmark == 'all' else (args.benchmark,):
        benchmark = importlib.import_module(f'benchmarks.{name}_benchmark')
        result = benchmark.run(options).to_dict()
        print_result(result)
        results.append(result)
        if name == 'attention':
            more_tables.append(benchmark.memory_in_markdown(result))
        # After each: an interrupted run leaves what it has.
        write(results, more_tables)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    # Peers have it as they come, so that this has it, too.
    run_tool(main, keep_memory=False)
