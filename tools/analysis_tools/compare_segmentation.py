"""Compare two segmentation models on the whole validation split: IoU per class, and a picture of examples."""

import argparse
import json
import sys
from pathlib import Path


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'should be at least 1. Found {number}')
    return number


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Both models see the images of the validation loader of the first config. The folder gets comparison.json, '
        'comparison.md, comparison.png and, for a model with attention over classes, its maps of every image as '
        'attention_1.npz or attention_2.npz.',
    )
    for letter in 'ab':
        parser.add_argument(f'config_{letter}', metavar=f'CONFIG_{letter.upper()}', help='config file')
        parser.add_argument(f'checkpoint_{letter}', metavar=f'CKPT_{letter.upper()}', help='checkpoint that was trained with it')
    parser.add_argument(
        '--names', nargs=2, metavar='NAME', help='headings; the folders of the configs, or their names, by default'
    )
    parser.add_argument('--data-root', help='folder with the data of both (or set MTL_DATA_ROOT)')
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the results; nothing is written without')
    parser.add_argument('--num-examples', type=positive, default=6, metavar='N', help='rows of the picture (default: 6)')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='override entries of both configs')
    return parser.parse_args()


def default_names(paths: list[Path]) -> list[str]:
    folders = [path.resolve().parent.name for path in paths]
    if folders[0] != folders[1]:
        return folders
    return [path.stem for path in paths] if paths[0].stem != paths[1].stem else ['first', 'second']


def main() -> None:
    args = parse_args()
    import numpy as np
    import torch
    from PIL import Image

    from benchmarks.provenance import provenance
    from benchmarks.results import Options
    from mtl_plugins.apis.comparison import build_loader, class_label, compare, load_contender
    from mtl_plugins.utils.config import load_config, parse_options
    from mtl_plugins.utils.files import make_folder, replacing
    from mtl_plugins.visualization.comparison import comparison_in_markdown, print_comparison, render_comparison

    paths, checkpoints = [args.config_a, args.config_b], [args.checkpoint_a, args.checkpoint_b]
    names = args.names or default_names([Path(path) for path in paths])
    options = parse_options(args.cfg_options)
    configs = [load_config(path, options, args.data_root) for path in paths]
    contenders = [load_contender(*items) for items in zip(names, configs, checkpoints, strict=True)]
    loader = build_loader(configs)
    made = provenance(Options(threads=torch.get_num_threads(), device='cuda' if torch.cuda.is_available() else 'cpu'))
    examples = compare(contenders, loader, args.num_examples, progress=sys.stderr.isatty())
    dataset, meta = loader.dataset, loader.dataset.metainfo
    document = dict(
        schema_version=1,
        # The others are those of a benchmark.
        provenance={key: value for key, value in made.items() if key not in ('repeats', 'quick', 'seed')},
        data=dict(
            root=str(dataset.data_root),
            split=dataset.split,
            images=len(dataset),
            classes=list(meta['classes']),
            label=class_label(loader),
        ),
        models=[contender.describe() for contender in contenders],
        examples=[dict(image=example['name'], label=meta['classes'][example['label']]) for example in examples],
    )
    print_comparison(document)
    if args.out is None:
        return
    make_folder(args.out)
    texts = {'comparison.json': json.dumps(document, indent=1) + '\n', 'comparison.md': comparison_in_markdown(document)}
    for name, text in texts.items():
        with replacing(args.out / name) as temporary:
            temporary.write_text(text)
    attention = [contender.attention for contender in contenders]
    picture = render_comparison(examples, names, attention, meta['classes'], meta['palette'])
    with replacing(args.out / 'comparison.png') as temporary:
        Image.fromarray(picture).save(temporary, format='PNG')
    for number, maps in enumerate(attention, start=1):
        if maps:
            with replacing(args.out / f'attention_{number}.npz') as temporary, open(temporary, 'wb') as file:
                np.savez_compressed(file, **maps)
    print(f'{args.out}: comparison.json, comparison.md, comparison.png')


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
