"""Show where a model is wrong: its confusion matrix, errors by distance, class and place, best, median and worst images."""

import argparse
import json
from pathlib import Path

from mtl_plugins.cli.arguments import config_options, positive
from mtl_plugins.cli.trained import HELP, find_model, open_models


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[config_options('of the data', shared=('device',))],
        epilog='The folder gets errors.json with all numbers; images.csv with the scores of each image alone; for each class map '
        'confusion_<label>.png (per cent of the label), confusion_<label>_counts.png and iou_<label>.png; '
        'error_<label>_by_<label or place>.png: the errors of each label by distance where there is depth, by class where there '
        'are classes, and over the places of the image; and a picture of the best, median and worst images for each --by. A '
        'depth error above 0 means predicted too far.',
    )
    parser.add_argument('model', nargs='+', metavar='MODEL', help=HELP)
    parser.add_argument('--split', help='split with labels; that of the validation by default')
    parser.add_argument('--labels', nargs='+', default=[], metavar='NAME', help='further labels to read, which are not predicted')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for the results')
    parser.add_argument(
        '--by',
        nargs='+',
        metavar='SCORE',
        help='columns of images.csv that rank the images: names as in metrics.csv, or error/<label>, the mean error of the '
        "image's pixels (default: error/<label> of each label)",
    )
    parser.add_argument('--num-images', type=positive, default=3, metavar='N', help='of best, median and worst (default: 3)')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    find_model(parser, args)


def main(args: argparse.Namespace) -> None:
    (model,) = open_models(args, ['val_dataloader'])
    import torch

    from mtl_plugins.evaluation.scores import find_score
    from mtl_plugins.lab.analysis.analysis import ERROR, TrainedModel, analyse, make_document, print_comparison, rank_images
    from mtl_plugins.lab.analysis.pixel_errors import errors_of
    from mtl_plugins.lab.plots.analysis_pictures import draw_confusions, draw_errors, draw_ranked
    from mtl_plugins.lab.samples import build_loader, labels_of, predict_samples
    from mtl_plugins.records.metrics_file import format_metrics
    from mtl_plugins.records.provenance import measured_here
    from mtl_plugins.utils.files import save_text
    from mtl_plugins.visualization.plots import write_picture

    trained = TrainedModel.load('model', *model)
    loader = build_loader([trained.model], [model.config], args.split, args.labels)
    labels = labels_of(loader)
    made = measured_here('cuda' if torch.cuda.is_available() else 'cpu')
    (analysis,), _ = analyse([trained], loader)
    known = {name for image in analysis.images for name in image}
    given = [find_score(name, known) or name for name in args.by or ()]
    scores = given or [f'{ERROR}{name}' for name in trained.model.label_names if errors_of(labels[name]).names]
    ranked = {score: rank_images(analysis, score, args.num_images) for score in scores}
    wanted = sorted({image['position'] for ranks in ranked.values() for some in ranks.values() for image in some})
    rows = {
        sample.position: dict(image=sample.image, labels=sample.values, predictions=sample.predictions[0])
        for sample in predict_samples([trained.model], loader, wanted)
    }
    document = make_document([analysis], loader, made)
    print_comparison(document)
    images = [{key: value for key, value in image.items() if key != 'position'} for image in analysis.images]
    for name, text in (('errors.json', json.dumps(document, indent=1) + '\n'), ('images.csv', format_metrics(images))):
        save_text(args.out / name, text)
    height, width = rows[wanted[0]]['image'].shape[:2]
    splits = {trained.name: analysis.split}
    pictures = draw_confusions(splits) | draw_errors(splits, width / height)
    for score, ranks in ranked.items():
        pictures[f'images_by_{score.replace("/", "_")}'] = draw_ranked(ranks, rows, score, labels)
    for name, picture in pictures.items():
        write_picture(args.out / f'{name}.png', picture)
    print(f'{args.out}: errors.json, images.csv, {", ".join(f"{name}.png" for name in pictures)}')
