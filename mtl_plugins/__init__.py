"""Multi-task dense prediction (semantic segmentation and monocular depth) as a plugin package of MMSegmentation."""

from importlib import metadata as _metadata

__version__ = '0.1.0'

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


_check_stack()
