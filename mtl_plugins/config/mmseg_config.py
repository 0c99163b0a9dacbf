"""Whole configs of mmseg on this project's data."""

from pathlib import Path

import mmseg
from mmengine.config import Config, ConfigDict

from mtl_plugins.errors import ConfigError

PACKAGE = 'mmseg::'
# Data, metric and runtime of a config that is named on the command line.
TEMPLATE = Path(__file__).resolve().parents[2] / 'configs/_base_/mmseg_miniscapes_256x256.py'
# What a config takes from mmseg's where it does not say otherwise.
SCHEDULE = ('optim_wrapper', 'param_scheduler', 'train_cfg')


def read_mmseg_config(name: str) -> Config:
    """Read the config ``mmseg::<folder>/<file>.py`` of the installed package.

    mmengine's own look-up knows the package by the name of the original and would install that.
    """
    folder = Path(mmseg.__file__).parent / '.mim/configs'
    path = folder / name.removeprefix(PACKAGE)
    if not path.is_file():
        raise ConfigError(f'There is no config {name} in the installed mmseg. {folder} holds them.')
    return Config.fromfile(path)


def template_for(name: str) -> Config:
    """Return this project's data, metric and runtime for a config of mmseg, which is still to be filled in."""
    template = Config.fromfile(TEMPLATE)
    template.model.segmentor = name
    # The run is named after it.
    return Config(template._cfg_dict, filename=read_mmseg_config(name).filename)


def fill_in(config: Config) -> None:
    """Replace the name of a config of mmseg at ``model.segmentor`` by its model, and take over its schedule, in place.

    Optimizer, learning rates and length of the training, and with the length the intervals of validation and checkpoints, are
    mmseg's where the config has none; so are the mean and standard deviation of the images.
    """
    name = (config.get('model') or {}).get('segmentor')
    if not isinstance(name, str):
        return
    source = read_mmseg_config(name)
    config.model.segmentor = source.model
    preprocessor = source.model.get('data_preprocessor') or {}
    for key in ('mean', 'std'):
        if preprocessor.get(key):
            values = list(preprocessor[key])
            config.model.data_preprocessor[key] = values if preprocessor.get('bgr_to_rgb', True) else values[::-1]
    for key in SCHEDULE:
        if key not in config and key in source:
            config[key] = ConfigDict({key: source[key]})[key]
    if 'max_iters' in config.train_cfg:
        interval = config.train_cfg.get('val_interval', config.train_cfg.max_iters)
        config.default_hooks.checkpoint.setdefault('interval', interval)
