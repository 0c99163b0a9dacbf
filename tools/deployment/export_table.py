"""Try every config of configs/ in every exported format, and write the table of docs/deployment.md."""

import argparse
import json
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog='Models have random weights, and configs with the same graph are tried once. Rows that the JSON file holds '
        'already are not tried again: interrupt and start again at will. A config takes about half a minute of a core.',
    )
    parser.add_argument('--only', nargs='+', metavar='TEXT', help='configs whose path holds one of these')
    parser.add_argument('--json', type=Path, default=Path('docs/deployment_table.json'), help='results, row by row')
    parser.add_argument('--page', type=Path, default=Path('docs/deployment.md'), help='the page that holds the table')
    parser.add_argument('--again', action='store_true', help='try configs that have a result, too')
    parser.add_argument('--threads', type=int, default=2, help='of torch')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import torch

    from benchmarks.export_table import fingerprint, insert, leaf_configs, outcome_of, to_markdown, try_config
    from benchmarks.results import ROOT, Options, provenance, write_document
    from mtl_plugins.config.load import load_config

    torch.set_num_threads(args.threads)
    configs = {str(path.relative_to(ROOT / 'configs')): path for path in leaf_configs()}
    wanted = [name for name in configs if not args.only or any(text in name for text in args.only)]
    known = json.loads(args.json.read_bytes())['results'] if args.json.is_file() else {}
    for name in wanted if args.again else ():
        known.pop(name, None)
    same: dict[str, str] = {}
    made = provenance(Options(threads=args.threads))
    for name, path in configs.items():
        first = same.setdefault(fingerprint(load_config(str(path))), name)
        if name in wanted and name not in known:
            known[name] = dict(known[first], same_graph_as=first) if first in known else try_config(path)
            known[name]['commit'] = (made['commit'] or 'unknown')[:10]
            print(f'{name}: {outcome_of(known[name])}', flush=True)
        document = dict(provenance=made, results={each: known[each] for each in configs if each in known})
        write_document(args.json, document)
        write_document(args.page, insert(args.page.read_text(encoding='utf-8'), to_markdown(document)))


if __name__ == '__main__':
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT), str(ROOT / 'tools/analysis_tools')]
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
