"""Building parts of other libraries, which look for their own parts among their own."""

import logging
from typing import Any

from mmengine.logging import MMLogger
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook, register_module_parameter_registration_hook

from mtl_plugins.errors import ArgumentError, ConfigError, UserError
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.data_files import shorten

MOST_PARAMETERS, MOST_MODULES = 2**29, 2**15


class QuietInit:
    """Mixin for models and their parts: what initialised each weight goes into the log file of a run, and nowhere without one."""

    def _dump_init_info(self) -> None:
        # mmengine logs two lines for each weight otherwise, as in a notebook.
        if any(isinstance(handler, logging.FileHandler) for handler in MMLogger.get_current_instance().handlers):
            super()._dump_init_info()


def build_part(config: dict, **arguments: Any) -> Any:
    """Build a config whose ``type`` may name a library, as ``mmseg.ASPPHead`` does; ``arguments`` are defaults.

    Parts of the part are then looked up in that library first: this package has an ASPPHead as well.
    """
    scope, dot, _ = config['type'].rpartition('.') if isinstance(config.get('type'), str) else ('', '', '')
    return MODELS.build({**arguments, **config, **({'_scope_': scope} if dot else {})})


def build_from_data(config: dict, place: str, most: int = MOST_PARAMETERS, advice: str = '') -> nn.Module:
    """Build the model of a config that is data, see :func:`~mtl_plugins.utils.data_files.take_part`.

    A ConfigError, which names the config as ``place`` and ends with ``advice``, if it cannot be built or has more than ``most``
    weights. Nothing is written into the memory of more.
    """
    counts = dict(weights=0, modules=0)

    def count_weights(module: nn.Module, name: str, parameter: Any) -> None:
        counts['weights'] += parameter.numel() if parameter is not None else 0
        check()

    def count_modules(*_: Any) -> None:
        counts['modules'] += 1
        check()

    def check() -> None:
        if counts['weights'] > most or counts['modules'] > MOST_MODULES:
            raise ConfigError(f'{place} should have at most {most:,} weights and {MOST_MODULES:,} modules. Found more.')

    hooks = [register_module_parameter_registration_hook(count_weights), register_module_module_registration_hook(count_modules)]
    try:
        return MODELS.build(config)
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error, ArgumentError):
            raise
        # Arguments that do not fit end in errors of any class, deep in any library.
        raise ConfigError(
            f'{place} cannot be built from the config stored with it ({shorten(error, 300)}). {advice}'.strip()
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
