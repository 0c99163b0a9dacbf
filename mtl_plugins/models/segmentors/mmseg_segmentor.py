"""A whole segmentation model of mmseg, on this project's data and for its metrics and tools."""

import copy
import pickle
from collections.abc import Mapping, Sequence

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError, CheckpointError, ConfigError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor
from mtl_plugins.models.tasks.semseg import SemSegTask
from mtl_plugins.models.utils.build import build_part
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.config_classes import typed_dicts
from mtl_plugins.utils.data_files import shorten

KINDS = ('EncoderDecoder', 'CascadeEncoderDecoder')
# Heads whose losses want more than a label map.
REFUSED = {'PIDHead': 'a map of edges'}


@MODELS.register_module()
class MMSegSegmentor(MultiTaskSegmentor):
    """An ``EncoderDecoder`` of mmseg as it is: its network, auxiliary heads, losses and way of inference (whole or sliding).

    Its number of classes is that of the task. The data preprocessor, predictions, test-time augmentation and submissions are
    those of :class:`MultiTaskSegmentor`. Losses are logged as ``<task>/loss_decode_<name>``, ``<task>/loss_aux_<name>``.

    Args:
        segmentor: Config of the model, or the name of a whole config, as ``mmseg::segformer/<file>.py``, which
            :func:`mtl_plugins.config.load.load_config` replaces by its model.
        tasks: One :class:`SemSegTask` by its name; its own loss is not used.
        pretrained: Weights of the backbone: True for those that the config of mmseg names, if any; False for random ones; or a
            file.
        task_balancing: As in :class:`MultiTaskSegmentor`; so are the others.

    Raises:
        ConfigError: If a part of it is in a library that is not installed.
        ArgumentError: If the model is of another kind, ``tasks`` holds something else, or a class weight does not fit the
            classes.
    """

    only_task = SemSegTask

    def __init__(
        self,
        *,
        segmentor: dict,
        tasks: dict[str, dict],
        pretrained: bool | str = True,
        task_balancing: dict | None = None,
        data_preprocessor: dict | None = None,
        channels_last: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        if not isinstance(segmentor, Mapping):
            raise ArgumentError(f'`segmentor` should be the config of a model. Found {segmentor!r}.')
        whole = ConfigDict(copy.deepcopy(dict(segmentor)))
        for name, task in tasks.items():
            unused = [key for key in ('loss', 'sampler') if task.get(key) is not None]
            if unused:
                raise ArgumentError(
                    f'`tasks.{name}.{unused[0]}` should be left out: the losses are those of `segmentor.decode_head`. '
                    f'Found {task[unused[0]]}.'
                )
        if not isinstance(pretrained, bool) or not pretrained:
            whole.backbone.pop('init_cfg', None)
            whole.backbone.pop('pretrained', None)
            whole.pretrained = None
        if isinstance(pretrained, str):
            whole.backbone.init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(
            backbone=whole,
            decode_head={},
            tasks=tasks,
            task_balancing=task_balancing,
            data_preprocessor=data_preprocessor,
            channels_last=channels_last,
            init_cfg=init_cfg,
        )

    def build_network(self, backbone: ConfigDict, neck: None, decode_head: dict, auxiliary_head: None) -> None:
        """Build the model of mmseg, whose whole config is given as the backbone's."""
        whole = backbone
        kind = whole.type.removeprefix('mmseg.')
        if kind not in KINDS:
            raise ArgumentError(f'`segmentor.type` should be {" or ".join(KINDS)}. Found {whole.type}.')
        ((self.task_name, task),) = self.tasks.items()
        for _, part in typed_dicts([whole.decode_head, whole.get('auxiliary_head')]):
            needed = REFUSED.get(part.type.rpartition('.')[2])
            if needed:
                raise ArgumentError(f'`segmentor` should learn from label maps alone. Found {part.type}, which needs {needed}.')
            if part.get('out_channels') == 1 and task.num_classes == 2:
                raise ArgumentError(
                    '`out_channels` of `segmentor` should be left out: two classes have two logits here, whose softmax is the '
                    'sigmoid of their difference. Found 1.'
                )
            if 'num_classes' in part:
                part.num_classes = task.num_classes
                part.pop('out_channels', None)
            weights = None if part.type.startswith('mmdet.') else part.get('class_weight')
            if isinstance(weights, Sequence) and not isinstance(weights, str) and len(weights) != task.num_classes:
                raise ArgumentError(
                    f'`class_weight` should have {task.num_classes} entries, one per class. Found {len(weights)}.'
                )
        whole.pop('data_preprocessor', None)
        whole.test_cfg = whole.get('test_cfg') or ConfigDict(mode='whole')
        try:
            self.segmentor = build_part({**whole, 'type': f'mmseg.{kind}'})
        except (ImportError, KeyError) as error:
            reason = shorten(Exception(*error.args[:1]), 300)
            raise ConfigError(f'`segmentor` needs a part that is not installed: {reason}') from error
        for part in (self.segmentor.backbone, self.neck, self.segmentor.decode_head):
            if part is not None:
                part.children_in_order_of_use = False
        self.auxiliary_heads = ()
        self.is_foreign = True

    @property
    def backbone(self) -> nn.Module:
        return self.segmentor.backbone

    @property
    def neck(self) -> nn.Module | None:
        return self.segmentor.neck if self.segmentor.with_neck else None

    @property
    def decode_head(self) -> nn.Module:
        """Decode head of the model; a list in a cascade."""
        return self.segmentor.decode_head

    def init_weights(self) -> None:
        try:
            super().init_weights()
        except (OSError, pickle.UnpicklingError, CheckpointError) as error:
            found = self.backbone.init_cfg
            raise CheckpointError(
                f'The weights of the backbone, {found}, cannot be had ({str(error).splitlines()[0]}). Pass a file as '
                '`--cfg-options model.pretrained=FILE`, or start from random weights with `model.pretrained=False`.'
            ) from error

    def encode(self, inputs: Tensor) -> Sequence[Tensor]:
        return self.segmentor.extract_feat(self.to_network(inputs))

    def decode(self, inputs: Tensor) -> dict[str, list[Tensor]]:
        size = inputs.shape[-2:]
        meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0] * 4)
        # A graph for batches of any size does not count their images; all of them have the same entry.
        metas = [meta] if torch.compiler.is_compiling() else [dict(meta) for _ in inputs]
        return {self.task_name: [self.segmentor.inference(self.to_network(inputs), metas)]}

    def loss(self, inputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        labels = targets.get(self.labels[self.task_name])
        share = self.shares_of_labels(targets).get(self.task_name, 1.0)
        if labels is None:
            share = 0
            labels = torch.full((len(inputs), *inputs.shape[-2:]), IGNORE_LABEL, device=inputs.device)
        samples = []
        for label in labels:
            sample = SegDataSample(metainfo=dict(img_shape=tuple(label.shape), pad_shape=tuple(label.shape)))
            sample.gt_sem_seg = PixelData(data=label[None].long())
            samples.append(sample)
        losses = {}
        for key, value in self.segmentor.loss(self.to_network(inputs), samples).items():
            place, _, name = key.rpartition('.')
            value = sum(entry.mean() for entry in value) if isinstance(value, (list, tuple)) else value.mean()
            name = f'{place}_{name.removeprefix("loss_")}'.replace('.', '_')
            if 'loss' in key:
                losses[f'{self.task_name}/loss_{name}'] = value * share
            else:
                losses[f'{self.task_name}/{name}'] = value
        return losses
