"""Judge the features of a checkpoint: k-NN and linear-probe accuracy on validation images, compared with random weights."""

import argparse
import json
from pathlib import Path

from mtl_plugins.cli.arguments import config_options
from mtl_plugins.cli.trained import HELP, find_weights


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        parents=[config_options('of the images')],
        epilog='Training images are the bank, validation images the queries. Vote: the nearest by cosine, weighted by exp(cosine '
        '/ 0.07). Linear probe: logistic regression with C = 1 on standardised features. Of a config alone the initial weights '
        'are judged, such as those of `init_cfg`. Options that you leave out, such as --k, are those of FeatureHook in the '
        'config, so that the numbers are those in the log of the run.',
    )
    parser.add_argument('model', nargs='+', metavar='MODEL', help=f'{HELP}; or a config alone')
    parser.add_argument('--random-init', action='store_true', help='also judge the same network with random weights')
    parser.add_argument('--data-config', metavar='CONFIG', help='config with the images, if not that of the model')
    parser.add_argument('--image-size', type=int, metavar='PIXELS', help='side of the images')
    parser.add_argument('--num-train', type=int, help='training images at most, 0 for all')
    parser.add_argument('--num-val', type=int, help='validation images at most, 0 for all')
    parser.add_argument('--k', type=int, help='neighbours that vote')
    parser.add_argument('--device', default='cpu', help='where the model runs, e.g. cuda:0 (default: cpu)')
    parser.add_argument('--seed', type=int, default=0, help='of random weights (default: 0)')
    parser.add_argument('--json', type=Path, metavar='OUT.json', help='write numbers and their provenance there')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    find_weights(parser, args)


def main(args: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from mtl_plugins.errors import DataError
    from mtl_plugins.lab.features.extraction import FeatureSet, estimate_batch_norm
    from mtl_plugins.lab.features.feature_scores import UNKNOWN, score_features, score_predictions
    from mtl_plugins.lab.features.subject import Subject
    from mtl_plugins.lab.tables import Table, to_markdown
    from mtl_plugins.records.provenance import measured_here
    from mtl_plugins.utils.files import save_text

    subject = Subject(args)
    k, names, rows = subject.setting('k'), ['knn_accuracy', 'linear_accuracy'], {}

    def judge(name: str, model: torch.nn.Module) -> tuple[FeatureSet, FeatureSet]:
        train, val = (subject.extract(model, split) for split in ('train', 'val'))
        rows[name] = score_features(train, val, k=k)
        if not rows[name]:
            raise DataError('Features are judged by labelled images, and no image here has a known class.')
        return train, val

    train, val = judge(subject.weights, subject.build_model())
    if args.random_init:
        model = subject.build_model(random=True)
        judge('random weights', model)
        # Statistics that an untrained network otherwise lacks: either row may be better by ten points.
        estimate_batch_norm(model, train.dataset, train.indices)
        judge('random weights, BatchNorm statistics of the training images', model)
    majority = np.bincount(train.labels[train.labels != UNKNOWN]).argmax()
    known = val.labels[val.labels != UNKNOWN]
    guesses = [score_predictions(np.full_like(known, majority), known, name) for name in names]
    rows['most frequent class, whatever the image'] = {name: value for guess in guesses for name, value in guess.items()}

    columns = [column for name in names for column in (name, f'{name}_per_class')]
    heading = f'{len(val.labels)} validation against {len(train.labels)} training images; accuracy in %'
    titles = [heading, f'{k}-NN', 'mean over classes', 'linear probe', 'mean over classes']
    cells = [[name, *(f'{scores[column]:.1f}' for column in columns)] for name, scores in rows.items()]
    print(to_markdown(Table(titles, cells)), end='')
    if args.json:
        document = dict(rows=rows, num_train=len(train.labels), num_val=len(val.labels), classes=list(val.classes), k=k)
        document |= dict(config=args.config, checkpoint=args.checkpoint, options=args.cfg_options)
        document['provenance'] = measured_here(args.device) | dict(seed=args.seed)
        save_text(args.json, json.dumps(document, indent=1) + '\n')
