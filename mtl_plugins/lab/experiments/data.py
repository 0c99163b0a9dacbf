"""The data set of a sweep or a plan."""

import os
from pathlib import Path

from mtl_plugins.config.load import DATA_ROOT_VARIABLE
from mtl_plugins.labels.presets import MINISCAPES_TASKS
from mtl_plugins.synthetic.demo import ensure_data


def data_for(numbers: dict | None, given: Path | None, folder: Path) -> Path | None:
    """The data root: the one given, else one generated below ``folder`` as the numbers say, else none but the config's own.

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
