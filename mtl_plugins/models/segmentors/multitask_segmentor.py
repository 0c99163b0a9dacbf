"""Model of several dense tasks: backbone, neck, decode head, tasks."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel, ModuleDict, ModuleList, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_plugins.errors import ArgumentError
from mtl_plugins.labels.label_kind import sample_field
from mtl_plugins.models.backbones.foreign_backbone import build_neck, find_pyramid, gives_pyramid
from mtl_plugins.models.decode_heads.heads import AuxiliaryHead, check_reads_pyramid, is_map_head
from mtl_plugins.models.decode_heads.mmseg_head import MMSegHead
from mtl_plugins.models.layers.depthwise_gradients import FastDepthwiseGradients
from mtl_plugins.models.utils.build import QuietInit, build_part
from mtl_plugins.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class MultiTaskSegmentor(QuietInit, BaseModel):
    """Predicts several maps of one image.

    ``backbone`` (an image to a feature pyramid) -> ``neck`` (pyramid to pyramid) -> ``decode_head`` (pyramid to ``{task:
    [prediction, ...]}``, the last one counts) -> ``tasks`` (losses, labels, metres) -> ``task_balancing`` (the total loss).

    Neck and head learn the pyramid's widths from ``backbone.out_channels`` (the head from ``neck.out_channels`` where there is
    one), and the head its output channels from the tasks, so that any head runs on any backbone; a config that states them is
    checked.

    Backbone and neck may be those of another library, as ``dict(type='mmseg.MixVisionTransformer', ...)``. They do not state the
    widths of five maps: they are tried out and their maps put in order, see :class:`PyramidOrder`. Such a neck gets its maps
    from fine to coarse.

    Args:
        backbone: Config.
        decode_head: Config. A head for one map, of this package or of mmseg, means ``dict(type='JointHead', head=...)``.
        tasks: Config of each task by its name; the order is that of the predictions' channels. A task learns the label of the
            data that its ``label`` names, by default the one of its own name; predictions have the name of the label.
        task_order: Names of the tasks in the order of the predictions' channels, as configs are stored with sorted keys; that of
            ``tasks`` by default. ``load_config`` fills it in.
        neck: Config or None.
        auxiliary_head: Config of a further head for one map, or a list of them, for training only. Besides the head's arguments
            it may have ``tasks``, the names of those it predicts (all by default), and ``loss_weight`` (0.4 by default), by which
            their losses are multiplied; these are logged with ``aux`` in their name.
        task_balancing: Config, without ``tasks``; equal fixed weights by default.
        data_preprocessor: Config.
        channels_last: Keep weights and activations channels-last in memory: faster on CPU and on tensor cores, and the same
            function. Ignored if a part of another library cannot compute so.
        norm_eval: Normalise by the running statistics of BatchNorm in training, too, as mmseg's backbones do with this
            argument: for more training of a trained model, as each small batch has other statistics. Scale and shift still learn.
        fast_depthwise: Train depthwise convolutions with the gradients of :class:`FastDepthwiseGradients` on CPUs: the same
            function, with gradients that differ by rounding.
        init_cfg: Of :class:`mmengine.model.BaseModel`.

    Raises:
        ArgumentError: If there is no task, ``task_order`` leaves one out, two learn the same label, the head's channels differ
            from the tasks', or a task would misread the head's output.
    """

    # The kind of the one task, of models that have no other.
    only_task: type | None = None

    def __init__(
        self,
        *,
        backbone: dict,
        decode_head: dict,
        tasks: dict[str, dict],
        task_order: Sequence[str] | None = None,
        neck: dict | None = None,
        auxiliary_head: dict | Sequence[dict] | None = None,
        task_balancing: dict | None = None,
        data_preprocessor: dict | None = None,
        channels_last: bool = True,
        norm_eval: bool = False,
        fast_depthwise: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if task_order is not None:
            if not set(tasks) <= set(task_order):
                raise ArgumentError(f'`task_order` should name the tasks, {list(tasks)}. Found {list(task_order)}.')
            tasks = {name: tasks[name] for name in task_order if name in tasks}
        self.norm_eval = norm_eval
        self.fast_depthwise = fast_depthwise
        self.tasks = self.build_tasks(tasks)
        self.labels = {name: task.label or name for name, task in self.tasks.items()}
        if len(set(self.labels.values())) < len(self.labels):
            raise ArgumentError(f'`tasks` should learn different labels. Found {self.labels}.')
        self.build_network(backbone, neck, decode_head, auxiliary_head)
        if not torch.cuda.is_available():
            # SyncBatchNorm, which configs of mmseg ask for, trains on GPUs only; the names of the weights are the same.
            revert_sync_batchnorm(self)
        for task in self.tasks.values():
            task.check_head(self.decode_head)
        self.task_balancing = TASK_UTILS.build({**(task_balancing or dict(type='FixedWeights')), 'tasks': list(tasks)})
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        if channels_last and self.is_foreign and not self.computes():
            self.memory_format = torch.contiguous_format
            self.to(memory_format=self.memory_format)

    def build_network(
        self, backbone: dict, neck: dict | None, decode_head: dict, auxiliary_head: dict | Sequence[dict] | None
    ) -> None:
        """Build :attr:`backbone`, :attr:`neck`, :attr:`decode_head` and :attr:`auxiliary_heads`."""
        self.backbone = build_part(backbone)
        # Places of the maps of a backbone or neck that gives no pyramid itself.
        self.backbone_order = self.neck_order = self.neck = None
        if not gives_pyramid(self.backbone):
            self.backbone.children_in_order_of_use = False
            self.backbone_order = find_pyramid(self.backbone)
        in_channels = (self.backbone_order or self.backbone).out_channels
        if neck:
            self.neck = build_neck(neck, in_channels)
            if not gives_pyramid(self.neck):
                self.neck.children_in_order_of_use = False
                self.neck_order = find_pyramid(self.backbone, self.neck, self.backbone_order)
            in_channels = (self.neck_order or self.neck).out_channels
        out_channels = {name: task.out_channels for name, task in self.tasks.items()}
        if is_map_head(decode_head):
            decode_head = dict(type='JointHead', head=decode_head)
        check_reads_pyramid(decode_head)
        self.decode_head = MODELS.build({'in_channels': in_channels, 'out_channels': out_channels, **decode_head})
        if self.decode_head.out_channels != out_channels:
            raise ArgumentError(f'`decode_head.out_channels` should be {out_channels}. Found {self.decode_head.out_channels}.')
        configs = [auxiliary_head] if isinstance(auxiliary_head, Mapping) else auxiliary_head or []
        self.auxiliary_heads = ModuleList(AuxiliaryHead(config, in_channels, out_channels) for config in configs)
        given = getattr(self.backbone, 'num_tasks', 1)
        for head in (self.decode_head, *self.auxiliary_heads):
            if (read := getattr(head, 'num_tasks', 1)) != given:
                raise ArgumentError(f'`backbone.num_tasks` should be {read}, as {type(head).__name__} reads it. Found {given}.')
        self.is_foreign = any(isinstance(module, MMSegHead) for module in self.modules()) or bool(
            self.backbone_order or self.neck_order
        )

    def train(self, mode: bool = True) -> 'MultiTaskSegmentor':
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    @torch.no_grad()
    def computes(self) -> bool:
        """Return True if images pass through the network as it is; always on the meta device."""
        weight = next(self.parameters())
        if weight.is_meta:
            return True
        was_training = self.training
        try:
            with torch.random.fork_rng(devices=[]):
                self.eval().decode(weight.new_zeros(2, 3, 128, 128))
        except RuntimeError:
            return False
        finally:
            self.train(was_training)
        return True

    def forward(
        self,
        inputs: Tensor,
        targets: dict[str, Tensor] | None = None,
        sample_idx: Tensor | None = None,
        metainfo: list[dict] | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | list[SegDataSample]:
        """Return losses, predictions or raw outputs of normalised images ``(B, 3, H, W)``.

        Args:
            inputs: Normalised images.
            targets: Targets ``(B, H, W)`` or ``(B, C, H, W)`` by label; a task without one has the loss 0.
            sample_idx: Positions in the dataset, ``(B,)``.
            metainfo: Per image; a prediction is cropped to ``ori_shape``.
            mode: ``'loss'`` for ``{'<task>/loss_<name>': scalar}``; ``'predict'`` for a data sample per image; ``'tensor'`` for
                ``{task: (B, C, H, W)}``, the head's outputs at the input size.
        """
        if mode == 'loss':
            with FastDepthwiseGradients() if self.fast_depthwise else nullcontext():
                return self.loss(inputs, targets or {})
        if mode == 'predict':
            return self.pack_samples(self.predict_arrays(inputs), targets or {}, sample_idx, metainfo)
        if mode == 'tensor':
            predictions = self.decode(inputs)
            return {name: task.upsample(predictions[name][-1], inputs.shape[-2:]) for name, task in self.tasks.items()}
        raise ArgumentError(f"`mode` should be 'loss', 'predict' or 'tensor'. Found {mode!r}.")

    def build_tasks(self, tasks: dict[str, dict]) -> ModuleDict:
        if not tasks:
            raise ArgumentError('`tasks` is empty: it should name at least one task.')
        built = ModuleDict({name: MODELS.build(task) for name, task in tasks.items()})
        kinds = [type(task) for task in built.values()]
        if self.only_task and kinds != [self.only_task]:
            found = ', '.join(kind.__name__ for kind in kinds)
            raise ArgumentError(f'`tasks` should hold one {self.only_task.__name__}. Found {found}.')
        return built

    def compile_network(self, **options) -> None:
        """Compile backbone, neck and decode head for training, in place and under the same names of weights; copies are not.

        Hooks on layers of a compiled part, as :class:`HistogramHook` has, may see nothing.
        """
        self.fix_padding()
        for part in (self.backbone, self.neck, self.decode_head):
            if part is not None:
                part.compile(**options)

    def fix_padding(self) -> None:
        """Let the backbone rely on the data preprocessor's padding, in place, before it becomes a graph for any size."""
        divisor = getattr(self.data_preprocessor, 'size_divisor', None)
        if divisor and hasattr(self.backbone, 'fix_padding'):
            self.backbone.fix_padding(divisor)

    def to_network(self, inputs: Tensor) -> Tensor:
        """Return images ``(B, 3, H, W)`` in the precision and memory format of the weights."""
        return inputs.to(next(self.backbone.parameters()).dtype, memory_format=self.memory_format)

    def encode(self, inputs: Tensor) -> Sequence[Tensor | None]:
        """Return the maps ``(B, C, h, w)`` for the decode head, from fine to coarse, of normalised images ``(B, 3, H, W)``."""
        features = self.backbone(self.to_network(inputs))
        if self.backbone_order:
            features = self.backbone_order(features)
        if self.is_foreign and self.memory_format == torch.contiguous_format:
            features = [feature if feature is None else feature.contiguous() for feature in features]
        if self.neck is None:
            return features
        if self.neck_order:
            return self.neck_order(self.neck([feature for feature in features if feature is not None]))
        return self.neck(features)

    def decode(self, inputs: Tensor) -> dict[str, list[Tensor]]:
        """Return predictions ``(B, C, h, w)`` by task, the last one being the best, of normalised images ``(B, 3, H, W)``."""
        return self.decode_head(self.encode(inputs))

    def loss(self, inputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return losses by ``<task>/loss_<name>``, and ``<task>/<other name>`` for what is only logged.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            targets: By name of the label, as tasks read them: ids ``(B, H, W)``, metres ``(B, H, W)``, vectors ``(B, 3, H, W)``.
        """
        features = self.encode(inputs)
        if self.balances_gradients:
            features = self.task_balancing.cut(features)
        losses = self.losses_of(self.decode_head(features), targets)
        for number, head in enumerate(self.auxiliary_heads):
            place = f'aux{number}' if len(self.auxiliary_heads) > 1 else 'aux'
            for key, value in self.losses_of(head(features), targets).items():
                task, _, name = key.partition('/')
                if name.startswith('loss_'):
                    losses[f'{task}/loss_{place}_{name.removeprefix("loss_")}'] = head.loss_weight * value
        return losses

    def losses_of(self, predictions: dict[str, list[Tensor]], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = {}
        shares = self.shares_of_labels(targets)
        for name, task in self.tasks.items():
            if name not in predictions:
                continue
            for key, value in task.losses(predictions[name], targets.get(self.labels[name])).items():
                losses[f'{name}/{key}'] = value * shares[name] if name in shares and key.startswith('loss_') else value
        return losses

    def shares_of_labels(self, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return factors of the losses by which the mean over several processes counts those whose batch has a label."""
        if get_world_size() == 1:
            return {}
        device = next(self.parameters()).device
        flags = torch.zeros(len(self.tasks), device=device)
        for index, (name, task) in enumerate(self.tasks.items()):
            target = targets.get(self.labels[name])
            if target is not None:
                flags[index] = task.valid_mask(target).any()
        total = flags.clone()
        all_reduce(total)
        return dict(zip(self.tasks, flags * get_world_size() / total.clamp(min=1), strict=True))

    @property
    def balances_gradients(self) -> bool:
        """True if the task balancing takes the gradients of the tasks itself, and averages them over the processes."""
        return hasattr(self.task_balancing, 'take_step')

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Take a step as mmengine does; a task balancing by gradients does the backward passes itself."""
        if not self.balances_gradients:
            return super().train_step(data, optim_wrapper)
        with self.task_balancing.step():
            with optim_wrapper.optim_context(self):
                data = self.data_preprocessor(data, True)
                losses = self._run_forward(data, mode='loss')
            self.task_balancing.take_step(self.task_losses(losses), optim_wrapper)
        with torch.no_grad():
            return self.parse_losses(losses)[1]

    @staticmethod
    def task_losses(losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of the entries ``<task>/loss_*`` of each task."""
        task_losses = {}
        for key, value in losses.items():
            task, name = key.split('/')
            if name.startswith('loss_'):
                task_losses[task] = task_losses[task] + value if task in task_losses else value
        return task_losses

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total that is minimised, by the task balancing, and what is logged, as tensors without gradient."""
        total = self.task_balancing(self.task_losses(losses))
        logged = {'loss': total.detach(), **{key: value.detach() for key, value in losses.items()}}
        return total, {**logged, **getattr(self.task_balancing, 'logged', {})} if self.training else logged

    def predict_arrays(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return predictions of normalised images by label: uint8 classes or float32 metres ``(B, H, W)``, and so on."""
        predictions, size = self.decode(inputs), tuple(inputs.shape[-2:])
        return {self.labels[name]: task.predict(predictions[name][-1], size) for name, task in self.tasks.items()}

    @property
    def label_names(self) -> list[str]:
        """Labels that are predicted, in the order of the tasks."""
        return list(self.labels.values())

    def pack_samples(
        self,
        predictions: dict[str, Tensor],
        targets: dict[str, Tensor],
        sample_idx: Tensor | None,
        metainfo: Sequence[dict] | None,
    ) -> list[SegDataSample]:
        """Return a sample per image with ``pred_*`` and, where labelled, ``gt_*`` maps, cropped to ``ori_shape``.

        Maps are ``(1, H, W)``, those of vectors ``(3, H, W)``.
        """
        first = next(iter(predictions.values()))
        batch_size, size = len(first), tuple(first.shape[-2:])
        positions = sample_idx.tolist() if sample_idx is not None else None
        samples = []
        for index in range(batch_size):
            meta = dict(metainfo[index]) if metainfo else {}
            if positions is not None:
                meta['sample_idx'] = positions[index]
            height, width = meta.get('ori_shape', size)[:2]
            sample = SegDataSample(metainfo=meta)
            for name in self.label_names:
                for source, prefix in ((predictions, 'pred'), (targets, 'gt')):
                    if name in source:
                        maps = source[name][index]
                        maps = PixelData(data=maps.reshape(-1, *maps.shape[-2:])[:, :height, :width])
                        sample.set_field(maps, f'{prefix}_{sample_field(name)}', dtype=PixelData)
            samples.append(sample)
        return samples
