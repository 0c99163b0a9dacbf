"""Multi-task dense prediction (semantic segmentation and monocular depth) as a plugin package of MMSegmentation."""

import importlib as _importlib
from importlib import metadata as _metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_plugins.apis.inference import MultiTaskInferencer
    from mtl_plugins.apis.train import train
    from mtl_plugins.config.load import load_config

__version__ = '0.1.0'
__all__ = ['MultiTaskInferencer', 'load_config', 'train']

# Imported when they are asked for: torch takes seconds.
_MODULES = dict(
    MultiTaskInferencer='mtl_plugins.apis.inference', load_config='mtl_plugins.config.load', train='mtl_plugins.apis.train'
)

# Two stacks share the import names mmengine, mmcv and mmseg: maintained forks, and OpenMMLab's own. Of each name, who offers it.
_STACKS = {
    'onedl': (('onedl-mmengine',), ('onedl-mmcv',), ('onedl-mmsegmentation',)),
    'openmmlab': (('mmengine', 'mmengine-lite'), ('mmcv', 'mmcv-lite', 'mmcv-full'), ('mmsegmentation',)),
}


def _is_installed(distribution: str) -> bool:
    try:
        _metadata.distribution(distribution)
    except _metadata.PackageNotFoundError:
        return False
    return True


def _check_stack() -> None:
    found = {stack: [name for names in parts for name in names if _is_installed(name)] for stack, parts in _STACKS.items()}
    present = [stack for stack, names in found.items() if names]
    if len(present) == 2:
        fork, original = found.values()
        raise ImportError(
            f'{", ".join(original)} and {", ".join(fork)} share import names and are installed together. Run: pip uninstall -y '
            f"{' '.join([*original, *fork])}; pip install 'mtl_plugins[onedl]' for the maintained forks, or [openmmlab]"
        )
    lacking = [names[0] for names in _STACKS[present[0]] if not any(map(_is_installed, names))] if present else ['MMSegmentation']
    if lacking:
        raise ImportError(
            f"{', '.join(lacking)} is not installed. Run: pip install 'mtl_plugins[{present[0] if present else 'onedl'}]'"
            + ('' if present else " for maintained forks of OpenMMLab's packages, or [openmmlab] for these")
        )


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(_importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_check_stack()
