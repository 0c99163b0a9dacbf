"""Multi-task dense prediction (semantic segmentation and monocular depth) as a plugin package of MMSegmentation."""

from importlib import metadata as _metadata

__version__ = '0.1.0'

# The originals share import names with the maintained forks that this package needs.
_FORKS = {
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmcv-lite': 'onedl-mmcv',
    'mmcv-full': 'onedl-mmcv',
    'mmsegmentation': 'onedl-mmsegmentation',
}


def _is_installed(distribution: str) -> bool:
    try:
        _metadata.distribution(distribution)
    except _metadata.PackageNotFoundError:
        return False
    return True


def _check_forks() -> None:
    originals = [name for name in _FORKS if _is_installed(name)]
    if originals:
        forks = sorted({_FORKS[name] for name in originals})
        raise ImportError(
            f'Found the unmaintained package(s) {", ".join(originals)}; mtl_plugins needs the maintained fork(s) with the same '
            f'import names. Run: pip uninstall -y {" ".join(originals)} {" ".join(forks)} && pip install {" ".join(forks)}'
        )
    missing = [fork for fork in sorted(set(_FORKS.values())) if not _is_installed(fork)]
    if missing:
        raise ImportError(f'Missing package(s) {", ".join(missing)}. Run: pip install {" ".join(missing)}')


_check_forks()
