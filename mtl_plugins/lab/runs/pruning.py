"""Checkpoints that nobody needs any more."""

from pathlib import Path

from mtl_plugins.records.record import LOCK_NAME, RunRecord
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint
from mtl_plugins.utils.files import is_locked


def superfluous_checkpoints(run: RunRecord) -> list[Path]:
    """Checkpoints of a run that are neither the best nor the last; none if it runs, or if its last one is not known."""
    if is_locked(run.path / LOCK_NAME) or run.state == 'unreadable' or (latest := find_latest_checkpoint(run.path)) is None:
        return []
    kept = {Path(name).name for name in (run.data.get('checkpoints') or {}).values() if name}
    kept.add(Path(latest).name)
    if not all((run.path / name).is_file() for name in kept):
        return []
    return [path for path in sorted(run.path.glob('*.pth')) if path.name not in kept and not path.name.startswith('best_')]
