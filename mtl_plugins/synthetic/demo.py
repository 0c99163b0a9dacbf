"""The parts of the demo: its data, its table and its pictures."""

import importlib.util
import multiprocessing
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mtl_plugins.apis.inference import MultiTaskInferencer
from mtl_plugins.apis.train import TrainingResult
from mtl_plugins.evaluation.label_folder import find_labels
from mtl_plugins.evaluation.scores import SUMMARY_MULTITASK, TASK_SUMMARIES, rule_of, title_of, with_ties_broken
from mtl_plugins.labels.decoding import decode_image
from mtl_plugins.labels.presets import MINISCAPES_TASKS
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.submission.grader import grade_submission
from mtl_plugins.synthetic.position_baseline import fit_position_baseline, score_position_baseline
from mtl_plugins.synthetic.streets.miniscapes_writer import write_miniscapes
from mtl_plugins.utils.files import locked, make_folder, remove_leftovers, replace_folder, scratch_folder, shorten_paths
from mtl_plugins.visualization.plots import write_picture
from mtl_plugins.visualization.prediction_grid import render_prediction_grid
from mtl_plugins.visualization.tiles import BACKGROUND

SUMMARY = {title_of(name): name for name in (*TASK_SUMMARIES, SUMMARY_MULTITASK)}
PICTURE_ROWS = 5
# A temple between trees, by danielbuechele, CC BY 2.0.
PHOTOGRAPH = 'datasets/images/china.jpg'
ZOO_MODEL = 'camvid-semseg'


def ensure_data(
    out: Path,
    num_train: int,
    num_val: int,
    num_test: int,
    size: tuple[int, int],
    seed: int,
    labels: Sequence[str] = MINISCAPES_TASKS,
) -> Path:
    """Generate the data set unless an earlier demo with the same numbers left it. Of several processes one does."""
    root = out / f'data_{num_train}-{num_val}-{num_test}_{size[0]}x{size[1]}_seed{seed}'
    if tuple(labels) != MINISCAPES_TASKS:
        root = root.with_name(f'{root.name}_{"-".join(labels)}')
    splits = dict(train=num_train, val=num_val, test=num_test)
    make_folder(out)
    with locked(out / f'.{root.name}.lock'):
        remove_leftovers(out)
        if not all((root / split).is_dir() for split, number in splits.items() if number):
            with scratch_folder(root) as folder:
                write_miniscapes(folder, num_train, num_val, num_test, size, seed, multiprocessing.cpu_count(), labels=labels)
                replace_folder(folder, root)
    return root


def report(data_root: Path, work_dir: Path, result: TrainingResult) -> None:
    """Grade the submission, print the table of the demo and draw ``predictions.png`` and ``photograph.png``."""
    grader_labels = data_root / 'grader' / 'test'
    baseline = fit_position_baseline(data_root / 'train')
    rows = {
        'model, validation': _best_row(work_dir / 'metrics.csv'),
        'model, graded test': grade_submission(result.archive, grader_labels),
        'per-position baseline, validation': score_position_baseline(baseline, data_root / 'val'),
        'per-position baseline, graded test': score_position_baseline(baseline, grader_labels),
    }
    arrows = dict(greater='↑', less='↓')
    headings = [f'{label} {arrows[rule_of(name)]}' for label, name in SUMMARY.items()]
    table = Table('', *headings, title=result.run_name)
    for label, scores in rows.items():
        table.add_row(label, *(f'{scores[name]:.2f}' for name in SUMMARY.values()))
    console = Console()
    console.print(table)
    console.print('Baseline: for each pixel position the best guess from the training labels, without looking at the image.')
    model, guess = rows['model, graded test'], rows['per-position baseline, graded test']
    gain = model[SUMMARY['mIoU']] - guess[SUMMARY['mIoU']]
    reduction = 100 * (1 - model[SUMMARY['SI-logRMSE']] / guess[SUMMARY['SI-logRMSE']])
    console.print(f'Against it the model has {gain:+.1f} points of mIoU and {-reduction:+.0f} % of SI-logRMSE on the test split.')
    picture = work_dir / 'predictions.png'
    _draw(data_root, result.archive, picture)
    places = {'Submission': result.archive, 'Picture': picture, 'Checkpoint': result.checkpoint}
    library = importlib.util.find_spec('sklearn')
    if library is not None:
        places[f'Photograph, by {ZOO_MODEL} and by the demo'] = work_dir / 'photograph.png'
        _draw_photograph(Path(library.origin).parent / PHOTOGRAPH, result.checkpoint, work_dir / 'photograph.png')
    for label, path in places.items():
        console.print(shorten_paths(f'{label}: {path.absolute()}'), soft_wrap=True, highlight=False)


def _best_row(metrics_csv: Path) -> Mapping[str, float]:
    rows = [{name: float(value) for name, value in row.items()} for row in read_metrics(metrics_csv)]
    return max(rows, key=lambda row: with_ties_broken(row)[SUMMARY_MULTITASK])


def _draw(data_root: Path, archive: Path, picture: Path) -> None:
    """Predictions out of the archive beside the labels of the first test images."""
    found = find_labels(data_root / 'grader' / 'test')
    labels = {name: files.kind for name, files in found.items()}
    rows = []
    with zipfile.ZipFile(archive) as content:
        for stem in list(next(iter(found.values())).paths)[:PICTURE_ROWS]:
            row = {'image': decode_image(str(data_root / 'test' / 'rgb' / f'{stem}.jpg')), 'labels': {}, 'predictions': {}}
            for name, kind in labels.items():
                stored = kind.decode(str(found[name].paths[stem]))
                codes = kind.from_png(content.read(f'predictions/{name}/{stem}.png'), stored.shape[:2])
                row['labels'][name], row['predictions'][name] = kind.to_values(stored), kind.code_values(codes)
            rows.append(row)
    write_picture(picture, render_prediction_grid(rows, labels))


def _draw_photograph(photograph: Path, checkpoint: Path, picture: Path) -> None:
    """Draw the prediction of a model trained on real streets above that of the demo's model, which knows generated ones only."""
    models = [MultiTaskInferencer(model)(photograph)[0].side_by_side() for model in (ZOO_MODEL, checkpoint)]
    width = max(each.shape[1] for each in models)
    padded = [np.pad(each, ((0, 0), (0, width - each.shape[1]), (0, 0)), constant_values=BACKGROUND[0]) for each in models]
    write_picture(picture, np.vstack(padded))
