"""Who works on the points: threads that each start one training after another."""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from mtl_plugins.config.load import DATA_ROOT_VARIABLE
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation.scores import TITLED
from mtl_plugins.lab.experiments.definition import Point
from mtl_plugins.lab.experiments.launch import OUTPUT_NAME, GivenUp, Stopped, train_to_result
from mtl_plugins.lab.experiments.points import Points
from mtl_plugins.lab.experiments.results import pick
from mtl_plugins.labels.presets import MINISCAPES_TASKS
from mtl_plugins.synthetic.demo import ensure_data
from mtl_plugins.utils.cli import explain
from mtl_plugins.utils.data_files import printable
from mtl_plugins.utils.files import shorten_paths


def data_for(numbers: Mapping | None, given: Path | None, folder: Path) -> Path | None:
    """Return the data root: the one given, else one generated below ``folder`` as the numbers say, else None.

    Args:
        numbers: ``train``, ``val``, ``test``, ``size``, ``seed`` and perhaps ``labels``, as for ``make_dataset.py``.
        given: A data root of the user's; the environment variable of :func:`load_config` counts as well.
        folder: Where to generate.
    """
    given = given or os.environ.get(DATA_ROOT_VARIABLE)
    if given or not numbers:
        return Path(given).resolve() if given else None
    labels = tuple(numbers.get('labels', MINISCAPES_TASKS))
    sizes = (numbers['train'], numbers['val'], numbers['test'], tuple(numbers['size']), numbers['seed'])
    return ensure_data(folder, *sizes, labels).resolve()


def slots(jobs: int = 1, gpus: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the environment of each worker: a GPU of its own, or none of them set; and its share of the cores.

    Args:
        jobs: Trainings at a time, without ``gpus``.
        gpus: Ids as in CUDA_VISIBLE_DEVICES; a training at a time on each.
    """
    number = len(gpus) or jobs
    threads = {'OMP_NUM_THREADS': str(max(1, (os.cpu_count() or 1) // number))}
    return [{**threads, 'CUDA_VISIBLE_DEVICES': gpu} for gpu in gpus] or [threads] * jobs


def run_points(points: Points, data_root: Path | None, environments: Sequence[Mapping[str, str]]) -> None:
    """Work on points until there is none to begin; a worker for each of the environments.

    A point that fails keeps its sentence, and the others go on. When this process is interrupted, trainings end and their points
    stay as they are, to be continued.
    """
    stop = threading.Event()

    def work(environment: Mapping[str, str]) -> None:
        try:
            while not stop.is_set() and (point := points.take()) is not None:
                _train(points, point, data_root, environment, stop)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(len(environments)) as pool:
        futures = [pool.submit(work, environment) for environment in environments]
        try:
            wait(futures)
        finally:
            stop.set()
    for future in futures:
        future.result()


def _train(points: Points, point: Point, data_root: Path | None, environment: Mapping[str, str], stop: threading.Event) -> None:
    sweep, metric, seed = points.sweep, points.sweep.metric, point.seeds[0]
    label = printable(f'{point.number} ({point.label})')

    def progress(share: float, scores: Mapping[str, float]) -> bool:
        # Of the whole point, so that trainings of other lengths compare.
        step = round(100 * (point.seeds.index(seed) + share) / len(point.seeds))
        return metric is not None and points.report(point, step, pick(scores, metric))

    try:
        for seed in point.seeds:
            folder, path = points.folder(point, seed), points.result(point, seed)
            document = points.document(point, seed) or train_to_result(
                sweep, point, seed, folder, path, data_root, environment, progress, stop
            )
            shown = {metric: metric} if metric else TITLED
            scores = [f'{title} {document["metrics"][name]:.2f}' for name, title in shown.items() if name in document['metrics']]
            print(f'{label}, seed {seed}: {", ".join(scores)}, {document["seconds"]:.0f} s', flush=True)
        if error := points.record(point)['error']:
            raise UserError(error)
    except GivenUp:
        points.end(point, 'pruned')
        print(f'{label}: pruned', flush=True)
    except Stopped:
        pass
    except Exception as error:
        sentence = explain(error) or f'{type(error).__name__}: {error}'
        points.end(point, 'fail', sentence)
        log = shorten_paths(str(points.folder(point, seed) / OUTPUT_NAME))
        print(printable(f'{label} failed: {sentence} (see {log})'), flush=True)
