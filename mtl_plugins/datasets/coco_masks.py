"""Masks of COCO's annotations: polygons and run lengths to pixels."""

from types import ModuleType

from mtl_plugins.datasets.errors import DataError


def import_pycocotools() -> ModuleType:
    """``pycocotools.mask``.

    Raises:
        DataError: If it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise DataError('COCO annotations need pycocotools. Install it with `pip install "mtl_plugins[coco]"`.') from None
    return mask
