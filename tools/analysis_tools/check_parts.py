"""Try backbones, heads, losses, transforms and whole configs of mmseg on tiny generated data, and tabulate how it went."""

import argparse
import json
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog='Rows that the JSON file holds already are not tried again: interrupt and start again at will.',
    )
    parser.add_argument('--only', nargs='+', metavar='TEXT', help='rows whose name holds one of these, e.g. "backbone:" Dice')
    parser.add_argument('--json', type=Path, default=Path('docs/mmseg_parts.json'), help='results, row by row')
    parser.add_argument('--markdown', type=Path, default=Path('docs/mmseg_parts.md'), help='the table')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/check_parts'), help='folder of the data and the runs')
    parser.add_argument('--again', action='store_true', help='try rows that have a result, too')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import torch

    from benchmarks.mmseg_parts import all_rows, check, to_markdown
    from benchmarks.provenance import provenance
    from benchmarks.results import Options
    from mtl_plugins.synthetic.demo import ensure_data
    from mtl_plugins.utils.files import replacing

    torch.set_num_threads(2)
    data_root = ensure_data(args.work_dir, 2, 2, 2, (64, 128), seed=0).resolve()
    options = Options(threads=2, repeats=1, quick=False, device='cpu', seed=0)
    known = json.loads(args.json.read_bytes())['rows'] if args.json.is_file() else {}
    document = dict(provenance=provenance(options), rows={})
    for name, make in all_rows().items():
        wanted = not args.only or any(text in name for text in args.only)
        if wanted and (args.again or name not in known):
            known[name] = check(make, data_root, args.work_dir.resolve() / 'run')
            known[name]['commit'] = (document['provenance']['commit'] or 'unknown')[:10]
            print(f'{name}: {known[name]["outcome"]} {known[name].get("sentence", "")}', flush=True)
        document['rows'] = {row: known[row] for row in all_rows() if row in known}
        for path, text in ((args.json, json.dumps(document, indent=1) + '\n'), (args.markdown, to_markdown(document))):
            with replacing(path) as temporary:
                temporary.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
