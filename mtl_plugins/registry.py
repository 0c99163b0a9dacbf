"""Registries of the package: children of MMSegmentation's, in the scope ``mtl_plugins``.

A config with ``default_scope = 'mtl_plugins'`` finds a class here first, then in mmseg, then in mmengine, and needs no
``custom_imports``: each registry imports the modules that hold its classes (``locations``) on the first look-up.
Keep this module light. mmengine turns an ``ImportError`` raised by it into a mere warning.
"""

from mmengine.registry import Registry
from mmseg import registry as mmseg_registry

SCOPE = 'mtl_plugins'


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{name}' for name in locations])


RUNNERS = _child(mmseg_registry.RUNNERS, 'engine')
LOOPS = _child(mmseg_registry.LOOPS, 'engine')
HOOKS = _child(mmseg_registry.HOOKS, 'engine')
OPTIM_WRAPPERS = _child(mmseg_registry.OPTIM_WRAPPERS, 'engine')
# Nothing of ours is in the next three; without them mmengine warns that the scope is unknown, and without a location it looks for
# a function that registers everything.
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmseg_registry.OPTIM_WRAPPER_CONSTRUCTORS, 'registry')
PARAM_SCHEDULERS = _child(mmseg_registry.PARAM_SCHEDULERS, 'registry')
OPTIMIZERS = _child(mmseg_registry.OPTIMIZERS, 'registry')
LOG_PROCESSORS = _child(mmseg_registry.LOG_PROCESSORS, 'engine')
# Kinds of label, see `mtl_plugins.labels`; mmseg knows none.
LABELS = Registry('label', scope=SCOPE, locations=[f'{SCOPE}.labels.presets'])
DATASETS = _child(
    mmseg_registry.DATASETS,
    'datasets.multitask.miniscapes',
    'datasets.cityscapes.cityscapes',
    'datasets.nyuv2',
    'datasets.camvid',
    'datasets.multitask.mmseg_dataset',
    'datasets.coco.datasets',
    'datasets.loading.labelled_dataset',
)
DATA_SAMPLERS = _child(mmseg_registry.DATA_SAMPLERS, 'datasets.loading.samplers')
TRANSFORMS = _child(
    mmseg_registry.TRANSFORMS,
    'datasets.transforms.formatting',
    'datasets.transforms.geometric',
    'datasets.transforms.multi_crop',
)
MODELS = _child(mmseg_registry.MODELS, 'models')
MODEL_WRAPPERS = _child(mmseg_registry.MODEL_WRAPPERS, 'engine')
TASK_UTILS = _child(mmseg_registry.TASK_UTILS, 'task_balancing')
METRICS = _child(mmseg_registry.METRICS, 'evaluation.metrics')
# Pictures of a run, see `mtl_plugins.engine.pictures`.
PICTURES = Registry('picture', scope=SCOPE, locations=[f'{SCOPE}.engine.pictures'])
VISBACKENDS = _child(mmseg_registry.VISBACKENDS, 'visualization.visualizer')
VISUALIZERS = _child(mmseg_registry.VISUALIZERS, 'visualization.visualizer')
