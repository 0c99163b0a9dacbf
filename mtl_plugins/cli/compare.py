"""Compare trained models on the same images: scores, IoU and errors by class, distance and place, confusion, and pictures."""

import argparse
import json
from pathlib import Path

from mtl_plugins.cli.arguments import config_options, positive, refuse_unused
from mtl_plugins.cli.trained import HELP, open_models, split_models


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[config_options('with the data of all', shared=('device',))],
        epilog='All models see the images of the validation loader of the first config. The folder gets comparison.json and '
        'comparison.md; for each label comparison_<label>.png, the same images through all models with their errors (signed '
        'relative depth errors, wrong classes), and error_<label>_by_<distance, class or place>.png; for each class map '
        'iou_<label>.png, confusion matrices, and their differences to that of the first model.',
    )
    parser.add_argument('model', nargs='+', metavar='MODEL', help=f'each a {HELP}')
    parser.add_argument(
        '--names',
        nargs='+',
        metavar='NAME',
        help='headings; by default what tells the names of the configs, or of their folders, apart',
    )
    parser.add_argument('--split', help='split with labels; that of the validation by default')
    parser.add_argument('--labels', nargs='+', default=[], metavar='NAME', help='further labels to read, which are not predicted')
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the results; nothing is written without')
    parser.add_argument('--num-examples', type=positive, default=6, metavar='N', help='rows of the pictures (default: 6)')
    parser.add_argument('--indices', type=int, nargs='+', metavar='N', help='draw these images of the split instead')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    args.models, others = split_models(parser, args.model)
    if len(args.models) < 2 or others:
        parser.error(f'give at least two models. Found {" ".join(args.model)}')
    if args.names and len(set(args.names)) != len(args.models):
        parser.error(f'--names should name each of the {len(args.models)} models differently. Found {args.names}')
    refuse_unused(parser, args, args.out, 'without --out', 'num_examples')
    refuse_unused(parser, args, args.indices is None, 'with --indices', 'num_examples')


def default_names(configs: list[Path], checkpoints: list[Path]) -> list[str]:
    """Return the shortest names that differ: folders or files of the configs, or folders of the checkpoints."""
    for paths in (configs, checkpoints):
        for names in ([path.resolve().parent.name for path in paths], [path.stem for path in paths]):
            if len(set(names)) == len(names):
                return _without_common_ends(names)
    return [f'model {number}' for number, _ in enumerate(configs, start=1)]


def _without_common_ends(names: list[str]) -> list[str]:
    """Leave out what all names begin or end with, in whole words between underscores."""
    words = [name.split('_') for name in names]
    for end in (0, -1):
        while min(map(len, words)) > 1 and len({each[end] for each in words}) == 1:
            words = [each[:-1] if end else each[1:] for each in words]
    return ['_'.join(each) for each in words]


def main(args: argparse.Namespace) -> None:
    opened = open_models(args, ['val_dataloader'])
    import torch

    from mtl_plugins.lab.analysis.analysis import (
        TrainedModel,
        analyse,
        check_indices,
        choose_examples,
        comparison_in_markdown,
        make_document,
        print_comparison,
    )
    from mtl_plugins.lab.plots.analysis_pictures import draw_comparisons, draw_confusions, draw_errors
    from mtl_plugins.lab.samples import build_loader, labels_of, predict_samples
    from mtl_plugins.records.provenance import measured_here
    from mtl_plugins.utils.files import save_text
    from mtl_plugins.utils.zoo import locate_checkpoint
    from mtl_plugins.visualization.plots import write_picture

    checkpoints = [locate_checkpoint(checkpoint) for _, checkpoint in args.models]
    paths = [Path(config or checkpoint) for (config, _), checkpoint in zip(args.models, checkpoints, strict=True)]
    names = args.names or default_names(paths, checkpoints)
    configs = [each.config for each in opened]
    models = [TrainedModel.load(name, *each) for name, each in zip(names, opened, strict=True)]
    networks = [each.model for each in models]
    loader = build_loader(networks, configs, args.split, args.labels)
    check_indices(args.indices, len(loader.dataset))
    made = measured_here('cuda' if torch.cuda.is_available() else 'cpu')
    analyses, largest = analyse(models, loader)
    document = make_document(analyses, loader, made)
    print_comparison(document)
    if args.out is None:
        return
    examples = list(predict_samples(networks, loader, args.indices or choose_examples(largest, args.num_examples)))
    document['examples'] = [example.name for example in examples]
    texts = {'comparison.json': json.dumps(document, indent=1) + '\n', 'comparison.md': comparison_in_markdown(document)}
    for name, text in texts.items():
        save_text(args.out / name, text)
    height, width = examples[0].image.shape[:2]
    splits = {analysis.trained.name: analysis.split for analysis in analyses}
    pictures = draw_comparisons(examples, names, labels_of(loader), [largest[example.position] for example in examples])
    pictures |= draw_confusions(splits) | draw_errors(splits, width / height)
    for name, picture in pictures.items():
        write_picture(args.out / f'{name}.png', picture)
    print(f'{args.out}: {", ".join([*texts, *(f"{name}.png" for name in pictures)])}')
