"""The models that benchmarks run: joint configs as they are."""

from mmengine.config import Config

from benchmarks.provenance import ROOT
from mtl_plugins.config.load import load_config
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor
from mtl_plugins.registry import MODELS

CONFIG = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
# Separable as segmentation-models-pytorch's, and with as many convolutions in the decoder; and of half the width.
SEPARABLE_CONFIG = 'configs/joint/joint_r18-d16_1xb16-32e_separable-1conv_miniscapes-256x256.py'
NARROW_CONFIG = 'configs/joint/joint_r18-d16_1xb16-32e_separable-128_miniscapes-256x256.py'


def joint_config(data_root: str | None = None, **options: object) -> Config:
    """The config with overrides; ``__`` stands for a dot."""
    return load_config(str(ROOT / CONFIG), {key.replace('__', '.'): value for key, value in options.items()}, data_root)


def build_joint_model(config: str = CONFIG) -> MultiTaskSegmentor:
    """ResNet-18, output stride 16, random weights."""
    return MODELS.build(load_config(str(ROOT / config)).model)
