"""Who runs the trials: threads that each start one training after another."""

import math
import os
import statistics
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from optuna.trial import Trial

from mtl_plugins.config.load import suggest
from mtl_plugins.errors import UserError
from mtl_plugins.lab.experiments.launch import OUTPUT_NAME, GivenUp, Stopped, train_to_result
from mtl_plugins.lab.experiments.run import Run
from mtl_plugins.lab.experiments.study import SharedStudy, Trials
from mtl_plugins.utils.cli import explain
from mtl_plugins.utils.data_files import printable
from mtl_plugins.utils.files import shorten_paths


def slots(jobs: int = 1, gpus: Sequence[str] = ()) -> list[dict[str, str]]:
    """The environment of each worker: a GPU of its own, or none of them set; and its share of the cores.

    Args:
        jobs: Trainings at a time, without ``gpus``.
        gpus: Ids as in CUDA_VISIBLE_DEVICES; a training at a time on each.
    """
    number = len(gpus) or jobs
    threads = {'OMP_NUM_THREADS': str(max(1, (os.cpu_count() or 1) // number))}
    return [{**threads, 'CUDA_VISIBLE_DEVICES': gpu} for gpu in gpus] or [threads] * jobs


def run_trials(
    study: SharedStudy, sweep: Trials, work_dir: Path, data_root: Path | None, environments: Sequence[Mapping[str, str]]
) -> None:
    """Work on trials until nobody has to begin one; a worker for each of the environments.

    A trial that fails keeps its sentence, and the others go on. When this process is interrupted, trainings end and the trials
    stay as they are, to be continued.
    """
    stop = threading.Event()

    def work(environment: Mapping[str, str]) -> None:
        try:
            while not stop.is_set() and (taken := study.next_trial()) is not None:
                _run_trial(study, sweep, *taken, data_root, environment, stop)
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


def _run_trial(
    study: SharedStudy,
    sweep: Trials,
    trial: Trial,
    runs: Sequence[Run],
    data_root: Path | None,
    environment: Mapping[str, str],
    stop: threading.Event,
) -> None:
    values = []
    label = printable(f'trial {trial.number} ({runs[0].label})')
    try:
        for run in runs:

            def progress(done: float, scores: Mapping[str, float]) -> bool:
                # Shares of the whole trial, so that trials of other lengths compare.
                step = round(100 * (len(values) + done) / len(runs))
                return study.report(trial, _score(scores, sweep.metric), step)

            document = train_to_result(run, data_root, sweep.data, sweep.amp, environment, progress, stop)
            value = _score(document['metrics'], sweep.metric)
            if math.isnan(value):
                raise UserError(f'{sweep.metric} of the last validation is not a number.')
            values.append(value)
            print(f'{label}, seed {run.seed}: {sweep.metric} {value:.2f}, {document["seconds"]:.0f} s', flush=True)
    except GivenUp:
        study.prune(trial)
        print(f'{label}: pruned', flush=True)
    except Stopped:
        pass
    except Exception as error:
        sentence = explain(error) or f'{type(error).__name__}: {error}'
        study.fail(trial, sentence)
        log = shorten_paths(str(runs[len(values)].folder / OUTPUT_NAME))
        print(printable(f'{label} failed: {sentence} (see {log})'), flush=True)
    else:
        study.complete(trial, statistics.mean(values))


def _score(scores: Mapping[str, float], metric: str) -> float:
    """The score that the sweep is about.

    Raises:
        UserError: If the validation does not measure it, or it is not a number.
    """
    if metric not in scores:
        raise UserError(f'`metric` should be a column of metrics.csv. Found {metric!r}.{suggest(metric, scores)}')
    return scores[metric]
