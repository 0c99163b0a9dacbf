"""Names of timm's models; timm is optional and costs seconds to import, hence inside the functions."""

import difflib
from types import ModuleType

from mtl_plugins.errors import ConfigError


def import_timm() -> ModuleType:
    """The package timm.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            'timm is not installed, but the config asks for one of its models. Install the extra `timm`.'
        ) from error
    return timm


def nearest(name: str, names: list[str]) -> str:
    """The end of a sentence that refuses ``name``."""
    close = difflib.get_close_matches(name, names, n=3)
    return f'The nearest names are {", ".join(close)}.' if close else 'No name comes near.'


def check_model_name(name: str) -> None:
    """Accept the name of a timm model, with or without the tag of its pretrained weights (``resnet50.a1_in1k``).

    Raises:
        ValueError: If there is no such model.
    """
    timm = import_timm()
    if not timm.is_model(name):
        raise ValueError(f'`name` should be a model of timm. Found {name!r}. {nearest(name, timm.list_models())}')
