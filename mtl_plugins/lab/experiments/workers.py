"""Workers on the points of a sweep: threads that each start one training after another, watch it, and write down how it ends."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from mtl_plugins.config.load import DATA_ROOT_VARIABLE
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation.scores import titles_in
from mtl_plugins.lab.experiments.definition import Point, locate
from mtl_plugins.lab.experiments.points import Points
from mtl_plugins.lab.experiments.results import hash_of, pick, scores_of, write_json, write_result
from mtl_plugins.lab.experiments.training import ORDER_NAME
from mtl_plugins.labels.presets import MINISCAPES_TASKS
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.record import read_record_file
from mtl_plugins.synthetic.demo import ensure_data
from mtl_plugins.utils.cli import explain, progress_bar
from mtl_plugins.utils.data_files import parse_json, printable, read_bytes
from mtl_plugins.utils.files import make_folder, shorten_paths

OUTPUT_NAME = 'output.txt'
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0


class GivenUp(Exception):
    """The training was ended because its scores were worse than those of others."""


class Stopped(Exception):
    """The training was ended because the whole sweep is to end; it can be continued."""


def data_for(numbers: Mapping | None, given: Path | None, folder: Path) -> Path | None:
    """Return the data root: given or of the environment, else generated below ``folder`` as ``numbers`` say, else None."""
    given = given or os.environ.get(DATA_ROOT_VARIABLE)
    if given or not numbers:
        return Path(given).resolve() if given else None
    labels = tuple(numbers.get('labels', MINISCAPES_TASKS))
    sizes = (numbers['train'], numbers['val'], numbers['test'], tuple(numbers['size']), numbers['seed'])
    return ensure_data(folder, *sizes, labels).resolve()


def slots(jobs: int = 1, gpus: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the environment of each worker: a GPU of its own, if there are any, and its share of the cores."""
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
            with progress_bar() as bar:
                bar.add_task('Trainings', total=len(points.sweep.points))
                while wait(futures, timeout=POLL_SECONDS).not_done:
                    bar.update(bar.task_ids[0], completed=round(sum(points.done.values()), 2))
        finally:
            stop.set()
    for future in futures:
        future.result()


def _train(points: Points, point: Point, data_root: Path | None, environment: Mapping[str, str], stop: threading.Event) -> None:
    sweep, metric, seed = points.sweep, points.sweep.metric, point.seeds[0]
    label = printable(f'{point.number} ({point.label})')

    def progress(share: float, scores: Mapping[str, float]) -> bool:
        # Of the whole point, so that trainings of other lengths compare.
        points.done[point.number] = (point.seeds.index(seed) + share) / len(point.seeds)
        return metric is not None and points.report(point, round(100 * points.done[point.number]), pick(scores, metric))

    try:
        for seed in point.seeds:
            document = points.document(point, seed)
            if document is None:
                folder = points.folder(point, seed)
                order = dict(config=locate(point.config, sweep.path), options=point.options_of(seed), amp=sweep.amp)
                _prepare(folder, {**order, 'data_root': data_root and str(data_root), 'config_hash': hash_of(sweep, point)})
                _run(folder, environment, progress, stop)
                document = write_result(sweep, point, seed, folder, points.result(point, seed))
            shown = {metric: metric} if metric else titles_in(document['metrics'])
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
    finally:
        points.done[point.number] = 1.0


def _run(folder: Path, environment: Mapping[str, str], progress: Callable, stop: threading.Event) -> None:
    process = start_process(folder, environment)
    try:
        _watch(process, folder, progress, stop)
    finally:
        _end(process)
    if process.returncode:
        raise UserError(_sentence(process.returncode, folder / OUTPUT_NAME))


def start_process(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start the training of ``folder``. It ends when this process does, and not by the terminal's interrupt."""
    with (folder / OUTPUT_NAME).open('a', encoding='utf-8') as output:
        return subprocess.Popen(
            [sys.executable, '-m', 'mtl_plugins.lab.experiments.training', str(folder / ORDER_NAME)],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), **environment},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _prepare(folder: Path, order: dict) -> None:
    """Write the order; a training of the same one is continued, what another one left in the folder goes."""
    path = folder / ORDER_NAME
    with contextlib.suppress(OSError, ValueError):
        if parse_json(read_bytes(path)) == json.loads(json.dumps(order)):
            return
    # First of all, so that a folder of which a part is left is never taken for that of an order.
    path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    write_json(path, order)


def _watch(
    process: subprocess.Popen,
    folder: Path,
    progress: Callable[[float, Mapping[str, float]], bool],
    stop: threading.Event,
) -> None:
    """Wait for the end; after each validation ask ``progress`` of the share that is done and the scores whether to give up."""
    seen = 0
    while True:
        ended = process.poll() is not None
        rows = read_metrics(folder / METRICS_FILE)
        for row in rows[seen:]:
            done = int(row['iter']) / read_record_file(folder)['progress']['max_iters']
            if progress(done, scores_of(row)) and done < 1:
                raise GivenUp
        seen = len(rows)
        if ended:
            return
        if stop.wait(POLL_SECONDS):
            raise Stopped


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    process.stdin.close()


def _sentence(code: int, output: Path) -> str:
    """Return why a training ended with ``code``: the last line that it wrote, its own sentence or that of an exception."""
    if code < 0:
        return f'The training was ended by {signal.Signals(-code).name}.'
    lines = [line.strip() for line in output.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    return lines[-1].removeprefix('error: ') if lines else f'The training ended with exit status {code}.'
