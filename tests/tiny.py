"""Models small enough to train in a test, from the real configs."""

import inspect
from pathlib import Path

from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.utils import is_seq_of
from torch import Tensor, equal, nn

from mtl_plugins.config.load import load_config
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
EPOCH_CONFIG = CONFIGS / 'joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
ITER_CONFIG = CONFIGS / 'joint/joint_r18-d16_1xb16-40k_miniscapes-256x256.py'


@MODELS.register_module()
class TinyBackbone(BaseModule):
    """Five strided convolutions of eight channels: a pyramid like a ResNet's, with checkpoints of a few kilobytes."""

    out_channels = (8,) * 5

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3 if i == 0 else 8, 8, 3, stride=2 if i < 4 else 1, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            for i in range(5)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return tuple(features)


def shrink_data(config: Config) -> dict:
    """Overrides, by dotted key, that make batches and crops small."""
    batches = {f'{split}_dataloader.batch_size': 2 for split in ('train', 'val', 'test') if config.get(f'{split}_dataloader')}
    steps = enumerate(config.train_dataloader.dataset.pipeline)
    crops = {f'train_dataloader.dataset.pipeline.{place}.crop_size': 32 for place, step in steps if 'crop_size' in step}
    return {**batches, **crops}


def shrink_head(head: dict, place: str, channels: int = 16) -> dict:
    """Overrides, by dotted key, that make a decode head and those within it narrow: the same classes, the same structure."""
    parameters = inspect.signature(MODELS.get(head['type'])).parameters
    widths = dict(channels=channels, skip_channels=8, decoder_channels=channels, squeeze_excitation=4, num_bins=16, num_tokens=16)
    options = {}
    for name, width in widths.items():
        value = head.get(name, parameters[name].default) if name in parameters else None
        if value is not None:
            options[f'{place}.{name}'] = [max(width >> i, 4) for i in range(len(value))] if is_seq_of(value, int) else width
    if 'head' in head:
        options.update(shrink_head(head['head'], f'{place}.head', channels))
    for task, task_head in head.get('task_heads', {}).items():
        options.update(shrink_head(task_head, f'{place}.task_heads.{task}', channels))
    return options


def tiny_config(data_root: Path, work_dir: Path, config: Path = EPOCH_CONFIG, **overrides) -> Config:
    """``config`` shrunk, for ``data_root`` and ``work_dir``; ``overrides`` use ``__`` for dots."""
    plain = load_config(str(config))
    options = {
        **shrink_data(plain),
        **shrink_head(plain.model.decode_head, 'model.decode_head'),
        **{key.replace('__', '.'): value for key, value in overrides.items()},
    }
    # They take longer than such a run; their test asks for them.
    for picture in ('confusion', 'first_batch', 'observed'):
        if picture in plain.default_hooks.get('pictures', {}):
            options.setdefault(f'default_hooks.pictures.{picture}.interval', 0)
    resolved = load_config(str(config), options, str(data_root))
    resolved.model.backbone = dict(type='TinyBackbone')
    set_work_dir(resolved, str(work_dir))
    return resolved


def with_preset(folder: Path, preset: str, leaf: Path = EPOCH_CONFIG) -> Path:
    """A config that is a leaf and a preset below ``_base_``, as the README says."""
    path = folder / f'with_{Path(preset).name}.py'
    path.write_text(f"_base_ = ['{leaf}', '{CONFIGS}/_base_/{preset}.py']\n")
    return path


def check_same_end(one: Path, other: Path, *keys: str) -> None:
    """Fail unless these entries of the newest checkpoints of two work dirs are equal bit for bit."""
    ends = [load_checkpoint_file(find_latest_checkpoint(work_dir)) for work_dir in (one, other)]
    for key in keys:
        assert ends[0][key], key
        assert_same(*(end[key] for end in ends), key)


def assert_same(left, right, place: str) -> None:
    """Fail unless two entries of a checkpoint are equal bit for bit, and say where."""
    assert type(left) is type(right), place
    if isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for key, value in left.items():
            assert_same(value, right[key], f'{place}.{key}')
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), place
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_same(*pair, f'{place}.{index}')
    else:
        assert equal(left, right) if isinstance(left, Tensor) else left == right, place
