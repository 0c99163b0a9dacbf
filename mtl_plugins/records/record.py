"""``run.json``: what a training leaves about itself in its work dir. One JSON object, written whole or not at all.

==================  ====================================================================================================
``format``          1. Whoever rewrites the file keeps fields that it does not know.
``run_name``        see :func:`~mtl_plugins.submission.make_run_name`
``state``           ``running``, ``finished``, ``failed``, ``interrupted`` (Ctrl-C, SIGTERM). A run whose process is gone
                    without having said so is ``killed``: the file says ``running``, and nobody holds the work dir's lock
``error``           one sentence on why it failed, else null
``started``         start of the first session, UTC, ISO 8601 to the second; so are ``updated`` and ``ended`` (null if running)
``seconds``         wall time of all sessions together, validation and prediction of the test split included
``sessions``        a list, one entry for each start of the training: ``started``, ``updated``, ``state``, ``error``, ``seconds``,
                    ``from_iter``, ``iterations``, ``train_seconds`` (without validations), ``validations``, ``val_seconds``,
                    ``train_cpu_seconds`` and ``val_cpu_seconds`` (of all threads of the main process), ``power_watts`` and the
                    ``power_samples`` that it is the mean of, ``host``, ``pid``, ``command``, ``code``, ``device``, ``versions``
                    by package
``code``            ``commit`` of the repository that holds the package, and ``clean``: whether nothing was changed or untracked
                    in it; null both outside git. This, ``device`` and ``versions`` are those of the newest session
``config_file``     relative to the folder it was started in, if below it; null if the config was made in memory
``config``          the resolved config as data
``config_hash``     of what matters in it, without seed, names and places: :func:`~mtl_plugins.records.config_data.hash_config`
``data``            for each split that was used: ``samples``, and ``fingerprint`` of the names and sizes of its files (null if it
                    names none)
``seed``            of the run
``device``          ``name``, ``processes``, ``threads``
``progress``        ``epoch`` and ``iter`` that are done, ``max_epochs`` (null: trained by iterations), ``max_iters``, ``loss``
``epoch_seconds``   training time of one pass over the training split, without validation
``memory_mib``      the most that the main process needed: allocated on the GPU, or else resident
``memory_of``       ``gpu`` or ``process``
``power_watts``     mean power of the main process's GPU while it trained, sampled every few seconds; null where NVML tells none
``parameters``      of the model
``flops``           of one image of the size of a training batch, forward, a multiply-add being two; null if not to be counted
``flops_size``      height and width of that image
``scores``          all metrics of the best validation; of the last one if no score decides
``last_scores``     all metrics of the last validation
``best``            ``monitor``, ``rule``, ``epoch``, ``iter`` and ``value`` of the best validation; null without one
``validations``     ``epoch``, ``iter``, ``seconds`` of the run by then, ``train_seconds`` and ``train_cpu_seconds`` without
                    validations and without the wait for the first batch, and ``value`` of the monitored score, for each
``checkpoints``     file names of the ``best`` and the ``last``
``archive``         file name of the submission
``wandb``           ``[entity/]project/id`` of the run of Weights & Biases; null without one
``note``, ``tags``, ``task``, ``graded``
                    what people add: text, a list of words, the task of a course, and scores of a grader
==================  ====================================================================================================

Numbers that are not finite are null. Times of a process that was killed count up to its last update.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from mtl_plugins.errors import DataNotFoundError
from mtl_plugins.utils.data_files import ANY, is_flag, is_name, is_number, is_text, read_json

RECORD_NAME = 'run.json'
LOCK_NAME = '.lock'
FORMAT = 1

_CODE = dict(commit=is_text, clean=is_flag)
_DEVICE = dict(name=is_text, processes=is_number, threads=is_number)
_NUMBERS, _TEXTS = {ANY: is_number}, {ANY: is_text}
_SECONDS = ('seconds', 'train_seconds', 'val_seconds', 'train_cpu_seconds', 'val_cpu_seconds')
# What the fields are if they are there and not null, see `find_misfit`.
_FORM: dict[str, Any] = dict(
    **dict.fromkeys(('run_name', 'state', 'error', 'started', 'updated', 'ended', 'note', 'task'), is_text),
    **dict.fromkeys(('config_file', 'config_hash', 'memory_of', 'wandb'), is_text),
    **dict.fromkeys(('seconds', 'seed', 'epoch_seconds', 'memory_mib', 'power_watts', 'parameters', 'flops'), is_number),
    **dict.fromkeys(('scores', 'last_scores', 'graded', 'progress'), _NUMBERS),
    sessions=[
        dict(
            **dict.fromkeys(('started', 'updated', 'state', 'error', 'host', 'command'), is_text),
            **dict.fromkeys((*_SECONDS, 'from_iter', 'iterations', 'validations', 'pid'), is_number),
            **dict.fromkeys(('power_watts', 'power_samples'), is_number),
            code=_CODE,
            device=_DEVICE,
            versions=_TEXTS,
        )
    ],
    code=_CODE,
    device=_DEVICE,
    versions=_TEXTS,
    config=dict(model=dict(tasks={ANY: {}}), randomness={}, default_hooks=dict(checkpoint={})),
    data={ANY: dict(samples=is_number, fingerprint=is_text)},
    flops_size=[is_number],
    best=dict(monitor=is_text, rule=is_text, epoch=is_number, iter=is_number, value=is_number),
    validations=[_NUMBERS],
    checkpoints={ANY: is_name},
    archive=is_name,
    tags=[is_text],
)


def seconds_per_iteration(record: Mapping[str, Any]) -> float | None:
    """Return the training time of an iteration over all sessions, without validation; None before the first."""
    sessions = record.get('sessions') or ()
    iterations = sum(session.get('iterations') or 0 for session in sessions)
    return sum(session.get('train_seconds') or 0.0 for session in sessions) / iterations if iterations else None


def training_time(sessions: Sequence[Mapping[str, Any]], name: str = 'train_seconds') -> float:
    """Return the seconds of the iterations that led to the newest one: what a session did and the next repeated is left out.

    ``name`` is ``'train_seconds'`` or ``'train_cpu_seconds'``.
    """
    total = sessions[-1].get(name) or 0.0
    for session, following in pairwise(sessions):
        done = session.get('iterations') or 0
        kept = min((following.get('from_iter') or 0) - (session.get('from_iter') or 0), done)
        total += (session.get(name) or 0.0) * kept / done if done else 0.0
    return round(total, 3)


def read_record_file(work_dir: Path) -> dict[str, Any]:
    """Return the fields of ``run.json``; raise DataNotFoundError if there is none, CorruptFileError if it is no record."""
    path = work_dir / RECORD_NAME
    if not os.path.exists(path):
        raise DataNotFoundError(f"'{path}' does not exist: '{work_dir}' is no work dir of a recorded run.")
    return read_json(path, 'record of a run', _FORM)
