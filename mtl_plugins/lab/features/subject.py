"""The network and the images whose features a tool looks at, from its arguments."""

import inspect
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import nn
from torch.utils.data import Dataset

from mtl_plugins.config.load import load_config, parse_options
from mtl_plugins.config.stored_config import find_config
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.features.extraction import FeatureSet, check_splits, choose_evenly, extract_features
from mtl_plugins.lab.features.feature_hook import FeatureHook
from mtl_plugins.models.utils.weights import load_pretrained
from mtl_plugins.registry import DATASETS, MODELS


class Subject:
    """A network, and ``datasets``, the training and validation images (``train``, ``val``) as one view each.

    ``args`` are those of the tools: without ``checkpoint`` initial weights, without ``config`` that of the checkpoint, without
    ``data_config`` the images of the config, without ``image_size`` the pipeline of the config's :class:`FeatureHook`, and
    without ``num_train`` and the like as there.

    Raises:
        ConfigError: If there is no such device, nothing says how images are to be seen, or both splits are the same.
        DataError: If data are missing or broken.
    """

    def __init__(self, args: Namespace) -> None:
        if args.device != 'cpu' and not (args.device.startswith('cuda') and torch.cuda.is_available()):
            raise ConfigError(f'`--device` should be cpu, or cuda on a machine with CUDA. Found {args.device}.')
        self.args = args
        self.weights = 'initial weights' if args.checkpoint is None else Path(args.checkpoint).name
        loaders = () if args.data_config else ('train_dataloader', 'val_dataloader')
        options = parse_options(args.cfg_options)
        if args.checkpoint is None:
            self.config = load_config(args.config, options, args.data_root)
        else:
            self.config = find_config(args.checkpoint, args.config, options, args.data_root, loaders, training=True)
        data = self.config if args.data_config is None else load_config(args.data_config, data_root=args.data_root)
        self.hook = _find_hook(data)
        pipeline = self.hook.get('pipeline')
        if args.image_size is not None:
            pipeline = [dict(type='ResizeCrop', size=args.image_size), dict(type='PackViews')]
        if pipeline is None:
            raise ConfigError('The config has no FeatureHook with a pipeline: give `--image-size`.')
        self.datasets: dict[str, Dataset] = {}
        for split in ('train', 'val'):
            source = data.get(f'{split}_dataloader')
            if not source:
                raise ConfigError(f'The config has no `{split}_dataloader` with images.')
            self.datasets[split] = DATASETS.build({**source.dataset, 'pipeline': pipeline, 'test_mode': True})
        check_splits(*self.datasets.values())

    def setting(self, name: str) -> int:
        """Return the value of the command line, else that of :class:`FeatureHook`; 0 for None. A negative one is refused."""
        given = getattr(self.args, name)
        if given is not None and given < 0:
            raise ConfigError(f'`--{name.replace("_", "-")}` should not be negative. Found {given}.')
        default = inspect.signature(FeatureHook).parameters[name].default
        return given if given is not None else self.hook.get(name, default) or 0

    def build_model(self, random: bool = False) -> nn.Module:
        """Build the network in evaluation mode: of the checkpoint, else as ``init_cfg`` says; or with random weights."""
        torch.manual_seed(getattr(self.args, 'seed', 0))
        model = MODELS.build(self.config.model)
        if self.args.checkpoint is not None and not random:
            load_pretrained(model, self.args.checkpoint)
        elif not random:
            # mmengine would print every parameter.
            logger = MMLogger.get_current_instance()
            level = logger.level
            logger.setLevel('WARNING')
            model.init_weights()
            logger.setLevel(level)
        return model.to(self.args.device).eval()

    def extract(self, model: nn.Module, split: str, indices: Sequence[int] | None = None) -> FeatureSet:
        """Features of the images at ``indices``, or evenly chosen ones, as many as the settings say."""
        dataset = self.datasets[split]
        if indices is None:
            indices = choose_evenly(len(dataset), self.setting(f'num_{split}') or None)
        return extract_features(model, dataset, indices)


def _find_hook(config: Config) -> Mapping:
    """The config of :class:`FeatureHook`, empty if there is none."""
    hooks = [*config.get('custom_hooks', []), *(hook for hook in config.get('default_hooks', {}).values() if hook)]
    return next((hook for hook in hooks if hook.get('type') == FeatureHook.__name__), {})
