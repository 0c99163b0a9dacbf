"""Parts of mmseg and of other libraries in tiny models: trained, stopped, resumed, predicted."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mtl_plugins.apis.test import predict_split
from mtl_plugins.config.load import load_config
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from mtl_plugins.utils.cli import explain

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
CROP = 64
EPOCHS = 2
MIT = dict(type='mmseg.MixVisionTransformer', embed_dims=8, num_heads=[1, 2, 2, 4], num_layers=[1, 1, 1, 1])
HRNET_STAGES = dict(
    stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(8,)),
    stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1), num_channels=(4, 8)),
    stage3=dict(num_modules=1, num_branches=3, block='BASIC', num_blocks=(1, 1, 1), num_channels=(4, 8, 16)),
    stage4=dict(num_modules=1, num_branches=4, block='BASIC', num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 16, 32)),
)
PLAIN = dict(img_size=(CROP, CROP), embed_dims=24, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3))
PYRAMID = dict(type='mmseg.MultiLevelNeck', out_channels=16, scales=[4, 2, 1, 0.5])

BACKBONES = {
    'MixVisionTransformer': MIT,
    'ResNetV1c, output stride 8': dict(type='mmseg.ResNetV1c', depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    'ResNeXt': dict(type='mmseg.ResNeXt', depth=50, base_channels=16),
    'ResNeSt': dict(type='mmseg.ResNeSt', depth=50, base_channels=8, stem_channels=8),
    'SwinTransformer': dict(type='mmseg.SwinTransformer', embed_dims=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
    'HRNet': dict(type='mmseg.HRNet', extra=HRNET_STAGES),
    'MSCAN': dict(type='mmseg.MSCAN', embed_dims=[8, 16, 24, 32], depths=[1, 1, 1, 1], norm_cfg=dict(type='BN')),
    'MobileNetV2': dict(type='mmseg.MobileNetV2', widen_factor=0.25),
    'MobileNetV3': dict(type='mmseg.MobileNetV3', arch='small'),
    'PCPVT (Twins)': dict(type='mmseg.PCPVT', embed_dims=[8, 16, 24, 32], num_heads=[1, 2, 2, 4], depths=[1, 1, 1, 1]),
    'BiSeNetV1': dict(type='mmseg.BiSeNetV1', backbone_cfg=dict(type='mmseg.ResNet', depth=18)),
    'CGNet': dict(type='mmseg.CGNet', num_channels=(8, 16, 32)),
    'DDRNet': dict(type='mmseg.DDRNet', channels=8),
}
NECKS = {
    'VisionTransformer + MultiLevelNeck': (dict(type='mmseg.VisionTransformer', **PLAIN), PYRAMID),
    'VisionTransformer + Feature2Pyramid': (
        dict(type='mmseg.VisionTransformer', **PLAIN),
        dict(type='mmseg.Feature2Pyramid', embed_dim=24, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN')),
    ),
    'MixVisionTransformer + FPN': (MIT, dict(type='mmseg.FPN', out_channels=16)),
    'DilatedResNet (ours) + FPN': (dict(type='DilatedResNet', depth=18), dict(type='mmseg.FPN', out_channels=16)),
}
HEADS = {
    'SegformerHead': dict(type='mmseg.SegformerHead', channels=16),
    'UPerHead': dict(type='mmseg.UPerHead', channels=16),
    'FCNHead': dict(type='mmseg.FCNHead', channels=16),
    'ASPPHead': dict(type='mmseg.ASPPHead', channels=16),
    'DepthwiseSeparableASPPHead': dict(type='mmseg.DepthwiseSeparableASPPHead', channels=16, c1_channels=8),
    'PSPHead': dict(type='mmseg.PSPHead', channels=16),
    'LightHamHead': dict(type='mmseg.LightHamHead', channels=16, in_index=[1, 2, 3], ham_channels=16, ham_kwargs=dict(MD_R=4)),
    'FPNHead': dict(type='mmseg.FPNHead', channels=16, feature_strides=[4, 8, 16, 32]),
    'ISAHead': dict(type='mmseg.ISAHead', channels=16, isa_channels=8, down_factor=(2, 2)),
    'SegformerHead in BranchedHead': dict(type='BranchedHead', head=dict(type='mmseg.SegformerHead', channels=16)),
    'UPerHead in DistilledHead': dict(type='DistilledHead', head=dict(type='mmseg.UPerHead', channels=16)),
    'SegformerHead under bins': dict(
        type='BranchedHead',
        head=dict(type='mmseg.SegformerHead', channels=16),
        task_heads=dict(
            depth=dict(type='FixedBinsDepthHead', head=dict(type='mmseg.FCNHead', channels=16), num_bins=8, channels=16)
        ),
    ),
    'OCRHead': dict(type='mmseg.OCRHead', channels=16, ocr_channels=8),
    'Mask2FormerHead': dict(type='mmseg.Mask2FormerHead', num_classes=19),
}
LOSSES: dict[str, dict] = {
    'CrossEntropyLoss': dict(loss=dict(type='mmseg.CrossEntropyLoss')),
    'CrossEntropyLoss + DiceLoss': dict(
        loss=[dict(type='mmseg.CrossEntropyLoss'), dict(type='mmseg.DiceLoss', use_sigmoid=False, loss_weight=0.5)]
    ),
    'FocalLoss': dict(loss=dict(type='mmseg.FocalLoss')),
    'LovaszLoss': dict(loss=dict(type='mmseg.LovaszLoss', reduction='none')),
    'TverskyLoss': dict(loss=dict(type='mmseg.TverskyLoss')),
    'OhemCrossEntropy': dict(loss=dict(type='mmseg.OhemCrossEntropy', min_kept=100)),
    'CrossEntropyLoss, OHEMPixelSampler': dict(
        loss=dict(type='mmseg.CrossEntropyLoss'), sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100)
    ),
    'torch.CrossEntropyLoss': dict(loss=dict(type='torch.CrossEntropyLoss', label_smoothing=0.1)),
    'BoundaryLoss': dict(loss=dict(type='mmseg.BoundaryLoss')),
}
DEPTH_LOSSES = {
    'SiLogLoss (depth)': dict(type='mmseg.SiLogLoss'),
    'torch.SmoothL1Loss (depth)': dict(type='torch.SmoothL1Loss', beta=0.1),
}
TRANSFORMS = {
    'PhotoMetricDistortion': dict(type='mmseg.PhotoMetricDistortion'),
    'RandomRotate': dict(type='mmseg.RandomRotate', prob=1.0, degree=20),
    'RandomCutOut': dict(type='mmseg.RandomCutOut', prob=1.0, n_holes=(1, 4), cutout_shape=(8, 8), seg_fill_in=255),
    'RandomFlip': dict(type='mmseg.RandomFlip', prob=0.5),
    'RandomCrop': dict(type='mmseg.RandomCrop', crop_size=(48, 48), cat_max_ratio=0.75),
    'CLAHE': dict(type='mmseg.CLAHE'),
    'AdjustGamma': dict(type='mmseg.AdjustGamma', gamma=1.2),
    'mmcv.Pad': dict(type='mmcv.Pad', size=(80, 80), pad_val=dict(img=0, seg=255)),
    'torchvision.ColorJitter': dict(type='torchvision.ColorJitter', brightness=0.4, saturation=0.4),
    'torchvision.RandomAffine': dict(type='torchvision.RandomAffine', degrees=10, translate=(0.1, 0.1)),
    'albumentations.RandomBrightnessContrast': dict(type='albumentations.RandomBrightnessContrast', p=0.5),
    'albumentations.Affine': dict(type='albumentations.Affine', rotate=(-10, 10), p=1.0),
    'RandomRotFlip': dict(type='mmseg.RandomRotFlip', rotate_prob=1.0),
}
WHOLE: dict[str, dict] = {
    'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py': dict(
        backbone=dict(embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 4]),
        decode_head=dict(in_channels=[8, 16, 16, 32], channels=16),
    ),
    'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py': dict(decode_head=dict(channels=16)),
    'deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py': dict(decode_head=dict(channels=16)),
    'ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py': dict(),
    'bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py': dict(),
    'segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py': dict(),
    'pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py': dict(),
    'mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py': dict(),
}


def joint(change: Callable[[Config], None]) -> Callable[[Path, int], Config]:
    """A config of the joint model, tiny, with one part changed; takes the data root and the epochs to train."""

    def make(data_root: Path, epochs: int) -> Config:
        config = load_config(str(CONFIG), data_root=str(data_root))
        config.model.backbone = dict(MIT)
        config.model.data_preprocessor.size_divisor = 32
        config.model.decode_head.head.update(channels=16, skip_channels=8)
        config.train_cfg.max_epochs = epochs
        change(config)
        return config

    return make


def _backbone(backbone: dict, neck: dict | None = None) -> Callable[[Path, int], Config]:
    def change(config: Config) -> None:
        # Not `update`, which merges.
        config.model.backbone, config.model.neck = backbone, neck

    return joint(change)


def _head(head: dict) -> Callable[[Path, int], Config]:
    def change(config: Config) -> None:
        config.model.decode_head = head
        if 'task_heads' in head:
            config.model.tasks.depth.representation = 'metres'

    return joint(change)


def _loss(task: str, arguments: dict) -> Callable[[Path, int], Config]:
    def change(config: Config) -> None:
        for key, value in arguments.items():
            config.model.tasks[task][key] = value

    return joint(change)


def _transform(step: dict) -> Callable[[Path, int], Config]:
    return joint(lambda config: config.train_dataloader.dataset.pipeline.insert(2, step))


def _auxiliary(config: Config) -> None:
    config.model.auxiliary_head = dict(type='mmseg.FCNHead', channels=8, in_index=2, num_convs=1)


def _whole(name: str, options: dict) -> Callable[[Path, int], Config]:
    def make(data_root: Path, epochs: int) -> Config:
        config = load_config(f'mmseg::{name}', {'model.pretrained': False}, str(data_root))
        for part, changes in options.items():
            config.model.segmentor[part].update(changes)
        config.train_cfg.max_iters, config.train_cfg.val_interval = epochs, 1
        config.default_hooks.checkpoint.interval = 1
        return config

    return make


def all_rows() -> dict[str, Callable[[Path, int], Config]]:
    """What is tried: its config by ``<kind>: <name>``."""
    rows = {f'backbone: {name}': _backbone(part) for name, part in BACKBONES.items()}
    rows |= {f'neck: {name}': _backbone(*parts) for name, parts in NECKS.items()}
    rows |= {f'head: {name}': _head(part) for name, part in HEADS.items()}
    rows |= {'head: auxiliary FCNHead': joint(_auxiliary)}
    rows |= {f'loss: {name}': _loss('semseg', part) for name, part in LOSSES.items()}
    rows |= {f'loss: {name}': _loss('depth', dict(loss=part)) for name, part in DEPTH_LOSSES.items()}
    rows |= {f'transform: {name}': _transform(part) for name, part in TRANSFORMS.items()}
    rows |= {f'whole config: {name}': _whole(name, options) for name, options in WHOLE.items()}
    return rows


def check(make: Callable[[Path, int], Config], data_root: Path, work_dir: Path) -> dict[str, Any]:
    """Train two steps, validating and saving after each; train one, resume for the other, compare; predict and pack.

    Returns:
        ``outcome``: ``'works'``, ``'refused'`` (one sentence) or ``'fails'``; ``sentence`` where it does not work;
        ``parameters``, ``loss`` and ``seconds``.
    """
    started = time.perf_counter()
    try:
        straight, losses = _train(make(data_root, EPOCHS), work_dir / 'straight')
        _train(make(data_root, EPOCHS - 1), work_dir / 'resumed')
        resumed = make(data_root, EPOCHS)
        resumed.resume = True
        _train(resumed, work_dir / 'resumed')
        same = _same_checkpoints(work_dir / 'straight', work_dir / 'resumed')
        archive = work_dir / 'predictions.zip'
        predict_split(straight, archive, checkpoint=None, metrics_csv=work_dir / 'straight/metrics.csv')
        if not same:
            return dict(outcome='fails', sentence='The resumed run differs from the one that was not interrupted.')
        count = sum(parameter.numel() for parameter in straight.model.parameters())
        return dict(outcome='works', parameters=count, loss=losses[-1], seconds=round(time.perf_counter() - started, 1))
    except Exception as error:
        sentence = explain(error)
        text = sentence or f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}'
        return dict(outcome='fails' if sentence is None else 'refused', sentence=text.replace(str(ROOT), '.'))
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)


def _train(config: Config, work_dir: Path) -> tuple[Any, list[float]]:
    set_work_dir(config, str(work_dir))
    config.experiment_name = f'{work_dir.parent.name}-{work_dir.name}-{time.monotonic_ns()}'
    config.log_level = 'ERROR'
    config.default_hooks.pop('pictures', None)
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].batch_size = 2
    config.train_dataloader.dataset.pipeline[1].crop_size = CROP
    runner = RUNNERS.build(config)
    losses, train_step = [], runner.model.train_step

    def spy(data: dict, optim_wrapper: Any) -> dict:
        logged = train_step(data, optim_wrapper)
        losses.append(logged['loss'].item())
        return logged

    runner.model.train_step = spy
    runner.train()
    return runner, losses


def _same_checkpoints(*work_dirs: Path) -> bool:
    contents = [load_checkpoint_file(find_latest_checkpoint(work_dir)) for work_dir in work_dirs]
    return all(_same(*(content[key] for content in contents)) for key in ('state_dict', 'optimizer', 'param_schedulers'))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right


def to_markdown(document: dict) -> str:
    """The table of what was tried."""
    made = document['provenance']
    works = [row for row in document['rows'].values() if row['outcome'] == 'works']
    lines = [
        '# Parts of other libraries, tried',
        '',
        'Each row: two training steps on generated scenes, validated and saved after each; a second run stopped after the first '
        'step and resumed, whose weights, optimizer and schedules must be bit-identical; predictions of the test split, packed '
        'as a submission. Two loader threads. The networks are shrunk. "Refused" is a sentence for the user.',
        '',
        f'{len(works)} of {len(document["rows"])} work. Made by `python tools/analysis_tools/check_parts.py`, commit '
        f'{" and ".join(dict.fromkeys(row["commit"] for row in document["rows"].values()))}, {made["date"]}, {made["cpu"]}, '
        f'{made["cpu_cores"]} cores, device {made["device"]}; torch {made["versions"]["torch"]}, mmseg '
        f'{made["versions"]["onedl-mmsegmentation"]}.',
        '',
        '| kind | part | outcome | parameters | loss of step 2 | seconds |',
        '|---|---|---|--:|--:|--:|',
    ]
    for name, row in document['rows'].items():
        kind, _, part = name.partition(': ')
        if row['outcome'] == 'works':
            rest = f'works | {row["parameters"]:,} | {row["loss"]:.3f} | {row["seconds"]}'
        else:
            rest = f'{row["outcome"]}: {row["sentence"].replace("|", "/")} | | | '
        lines.append(f'| {kind} | {part} | {rest} |')
    return '\n'.join(lines) + '\n'
