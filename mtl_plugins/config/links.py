"""Links between parts of a config: labels, classes, tasks, and the scores that a run watches."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.scores import SUMMARY, SUMMARY_MULTITASK, SUMMARY_UNCLIPPED, TITLED, find_score, rule_of, title_of
from mtl_plugins.labels.presets import DESCRIPTION
from mtl_plugins.registry import METRICS, SCOPE
from mtl_plugins.utils.config_classes import accepted_arguments, any_class, own_class, suggest, suggest_class
from mtl_plugins.utils.data_files import shorten


def loaders_of(config: Config) -> Iterator[tuple[str, dict]]:
    """Yield the data loaders of a config by name; refuse lists of them and loaders without a data set."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = config.get(name)
        if not loader:
            continue
        dataset = loader.get('dataset') if isinstance(loader, Mapping) else None
        if not isinstance(dataset, Mapping) or 'type' not in dataset:
            raise ConfigError(
                f'`{name}` should be one data loader, with the dict of one data set as `{name}.dataset`. Found '
                f"{shorten(dataset or loader)}. Several data sets are `dict(type='ConcatDataset', datasets=[...])`, which are "
                'scored as one; to score each, run `mtl test` with each.'
            )
        yield name, loader


def _takes(node: Mapping, key: str) -> bool:
    """Return True if the class of this package that a dict names takes an argument."""
    return key in (accepted_arguments(own_class(str(node.get('type')))) or ())


def datasets_of(dataset: Mapping) -> Iterator[dict]:
    """Yield the data sets within a data set's config that read files: it, or those that ConcatDataset and such wrap."""
    # MMSegDataset wraps one too, and reads its files itself.
    keys = () if _takes(dataset, 'data_root') else [key for key in ('datasets', 'dataset') if dataset.get(key) is not None]
    if not keys:
        yield dataset
    for key in keys:
        for each in dataset[key] if isinstance(dataset[key], (list, tuple)) else [dataset[key]]:
            if not isinstance(each, Mapping) or 'type' not in each:
                raise ConfigError(f'`{key}` of {dataset["type"]} should hold dicts with a `type`. Found {each!r}.')
            yield from datasets_of(each)


def _all_datasets(config: Config) -> list[dict]:
    return [dataset for _, loader in loaders_of(config) for dataset in datasets_of(loader.dataset)]


def set_data_root(config: Config, data_root: str) -> None:
    """Give all data sets this root."""
    for dataset in _all_datasets(config):
        dataset['data_root'] = data_root


def set_missing_tasks(config: Config) -> None:
    """Set the tasks to None whose label ``dataset.json`` of the data root does not describe, if it describes that of another."""
    datasets = _all_datasets(config)
    tasks = (config.get('model') or {}).get('tasks')
    if not datasets or not isinstance(tasks, Mapping) or datasets[0]['type'] != 'MiniScapesDataset' or datasets[0].get('labels'):
        return
    offered = offered_labels(datasets[0]) or {}
    missing = [
        name for name, task in tasks.items() if isinstance(task, Mapping) and not task.get('label') and name not in offered
    ]
    kept = [name for name, task in tasks.items() if task is not None and name not in missing]
    if missing and kept and (Path(str(datasets[0].get('data_root'))) / DESCRIPTION).is_file():
        print_log(f'{DESCRIPTION} describes {", ".join(offered)}: the model learns {", ".join(kept)}.', logger='current')
        for name in missing:
            tasks[name] = None


def drop_tasks(config: Config) -> None:
    """Leave out the tasks that are None, as ``--cfg-options model.tasks.depth=None`` says, wherever the config names them."""
    model = config.get('model') or {}
    tasks = model.get('tasks')
    dropped = [name for name, task in tasks.items() if task is None] if isinstance(tasks, Mapping) else []
    if not dropped:
        return
    for name in dropped:
        del tasks[name]
    if not tasks:
        raise ConfigError(f'`model.tasks` should keep a task. Found {", ".join(dropped)} set to None.')
    if len(tasks) == 1:
        # Nothing is left to balance.
        model.pop('task_balancing', None)
    for part in ('model', 'tta_model', 'val_evaluator', 'test_evaluator'):
        _forget(config.get(part), dropped)
    for dataset in _all_datasets(config):
        if dataset.get('tasks'):
            dataset['tasks'] = [each for each in dataset['tasks'] if each not in dropped]


def _forget(node: Any, names: list[str]) -> None:
    """Take tasks out of dicts by task, as of weights or heads, and out of lists in `tasks` and `task_order`."""
    if isinstance(node, dict):
        for name in names if 'type' not in node else ():
            node.pop(name, None)
        for key in ('tasks', 'task_order'):
            if isinstance(node.get(key), (list, tuple)):
                node[key] = [each for each in node[key] if each not in names]
    if isinstance(node, (dict, list, tuple)):
        for value in node.values() if isinstance(node, dict) else node:
            _forget(value, names)


def _metrics_of(config: Config, *names: str) -> list[dict]:
    """Return the configs of the metrics of evaluators."""
    metrics = []
    for evaluator in map(config.get, names):
        if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
            evaluator = evaluator['metrics']
        metrics += evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    return [metric for metric in metrics if isinstance(metric, Mapping)]


def place_task_balancing(config: Config) -> None:
    """Move a top-level ``task_balancing``, of a further base, to the model: two bases cannot both hold ``model``."""
    balancing = config.pop('task_balancing', None)
    if balancing is None:
        return
    if not config.get('model'):
        raise ConfigError('`task_balancing` needs a `model`, and the config has none. Add a base of `_base_/models`.')
    config.model.task_balancing = balancing


def link_labels(config: Config) -> None:
    """Fill in what follows from the data: the labels that the model and the metrics read, and the number of classes.

    The data set says which labels there are; the tasks of the model say which of them are learned. So the data preprocessor gets
    the labels, the model the order of its tasks, a task of a class map ``num_classes``, and data sets and
    :class:`MultiTaskMetric` the names as ``tasks``, each only where the config leaves it out.

    Raises:
        ConfigError: If a task learns a label that the data set does not offer, or states another number of classes.
    """
    datasets = _all_datasets(config)
    model = config.get('model') or {}
    offered = offered_labels(datasets[0]) if datasets else None
    if not offered or not model.get('tasks'):
        return
    if not isinstance(model['tasks'], Mapping) or not all(isinstance(task, Mapping) for task in model['tasks'].values()):
        raise ConfigError(f'`model.tasks` should hold a dict with a `type` for each task, by name. Found {model["tasks"]!r}.')
    learned = {task: settings.get('label') or task for task, settings in model['tasks'].items()}
    for task, label in learned.items():
        if label not in offered:
            raise ConfigError(
                f'The task `{task}` should learn a label of {datasets[0].type}: {", ".join(offered)}. Found {label!r}. Set '
                f'`model.tasks.{task}.label`.'
            )
        settings, classes = model['tasks'][task], offered[label].get('classes')
        # What is no list of names is refused where the label is built.
        if isinstance(classes, (list, tuple)) and classes and _takes(settings, 'num_classes'):
            if settings.setdefault('num_classes', len(classes)) != len(classes):
                raise ConfigError(
                    f'`model.tasks.{task}.num_classes` should be {len(classes)}, the number of classes in the data, or be left '
                    f'out. Found {settings["num_classes"]}.'
                )
    if len(learned) > 1 and _takes(model, 'task_order'):
        model.setdefault('task_order', list(learned))
    preprocessor = model.get('data_preprocessor')
    if not isinstance(preprocessor, Mapping) or not own_class(str(preprocessor.get('type'))):
        raise ConfigError(
            "`model.data_preprocessor` should be dict(type='MultiTaskDataPreprocessor', ...), which reads the labels. "
            f'Found {preprocessor!r}.'
        )
    if _takes(preprocessor, 'labels'):
        preprocessor.setdefault('labels', offered)
    names = list(learned.values())
    for dataset in datasets:
        if _takes(dataset, 'tasks'):
            dataset.setdefault('tasks', names)
    for metric in _metrics_of(config, 'val_evaluator', 'test_evaluator'):
        if _takes(metric, 'tasks'):
            unknown = [name for name in metric.setdefault('tasks', names) if name not in offered]
            if unknown:
                raise ConfigError(
                    f'`tasks` of {metric["type"]} should be labels of the data: {list(offered)}. Found {unknown[0]!r}.'
                )


def link_scores(config: Config) -> None:
    """Give what watches a score its full name and which of two values is the better: checkpoints, early stopping, ``stop_at``.

    A config may call a score as the tables do, ``mIoU``, see :func:`find_score`. ``auto`` and a multitask score where there is
    none, as with a single task, is the summary of the first task.
    """
    from mmengine.hooks import CheckpointHook, EarlyStoppingHook  # takes seconds

    rules, is_complete = score_rules(config)
    tasks = list((config.get('model') or {}).get('tasks') or ())
    classes = [own_class(str(metric.get('type'))) for metric in _metrics_of(config, 'val_evaluator')]
    is_foreign = bool(classes) and not any(classes) and not is_complete
    summaries = [name for name in rules if name.startswith(SUMMARY)]
    default = SUMMARY_MULTITASK if SUMMARY_MULTITASK in rules else next(iter(summaries), None)

    def resolve(place: str, name: Any, rule: str | None = None) -> tuple[str, str | None]:
        if default and (name == 'auto' or (name == SUMMARY_MULTITASK and name not in rules)):
            return default, rules[default]
        # No other library calls its scores like this.
        ours = is_foreign and str(name).startswith((SUMMARY, 'metrics_task_'))
        found = _find(f'`{place}`', name, rules, tasks) if is_complete or ours else find_score(str(name), rules) or name
        known = rules.get(found, rule_of(found) or ('less' if str(found).startswith('val/') else None))
        if rule is not None and known is not None and rule != known:
            raise ConfigError(
                f'Of two values of {found} the {"larger" if known == "greater" else "smaller"} is the better: the '
                f"rule for `{place}` should be '{known}' or be left out. Found {rule!r}."
            )
        if rule is None and known is None and found in rules:
            raise ConfigError(f"`rule` for `{place}` is missing: set 'greater' or 'less', whichever is better for {found}.")
        return found, rule or known

    for place, hook in _hooks_of(config):
        cls = any_class(hook['type'])
        if not isinstance(cls, type):
            continue
        if issubclass(cls, CheckpointHook) and hook.get('save_best'):
            best, rules_given = hook['save_best'], hook.get('rule')
            is_list = isinstance(best, (list, tuple))
            rules_given = rules_given if isinstance(rules_given, (list, tuple)) else [rules_given]
            pairs = zip(best if is_list else [best], itertools.cycle(rules_given))
            found = [resolve(f'{place}.save_best', *pair) for pair in pairs]
            hook['save_best'], hook['rule'] = map(list, zip(*found, strict=True)) if is_list else found[0]
        elif issubclass(cls, EarlyStoppingHook) and hook.get('monitor'):
            hook['monitor'], hook['rule'] = resolve(f'{place}.monitor', hook['monitor'], hook.get('rule'))
    targets = (config.get('train_cfg') or {}).get('stop_at')
    if targets:
        if not isinstance(targets, Mapping):
            raise ConfigError(f"`train_cfg.stop_at` should be scores by name, as {{'mIoU': 30}}. Found {targets!r}.")
        found = {resolve('train_cfg.stop_at', name): value for name, value in targets.items()}
        unruled = [name for name, rule in found if rule is None]
        if unruled:
            raise ConfigError(
                f'`train_cfg.stop_at` should name scores of which the larger or the smaller is the better. Found {unruled[0]!r}.'
            )
        config.train_cfg.stop_at = {name: value for (name, _), value in found.items()}


def check_score(config: Config, place: str, name: str) -> tuple[str, str | None]:
    """Return the full name of a score of a config's validation, and which of two values is the better, if that is known."""
    rules, is_complete = score_rules(config)
    tasks = list((config.get('model') or {}).get('tasks') or ())
    found = _find(place, name, rules, tasks) if is_complete else find_score(name, rules) or name
    return found, rules.get(found)


def _find(place: str, name: Any, rules: Mapping[str, str | None], tasks: Sequence[str] = ()) -> str:
    found = find_score(str(name), rules)
    # What the losses of a task are called is up to the task.
    if found is None and not any(str(name).startswith(f'val/{task}/loss_') for task in tasks):
        summaries = [each for each in rules if each.startswith(SUMMARY)] or list(rules)
        if not set(rules) - {'val/loss'}:
            summaries.append('those of `val_evaluator`, as mIoU of mmseg.IoUMetric')
        listed = ', '.join(f'{each} ({title_of(each)})' if each in TITLED else each for each in summaries)
        reason = ' which needs semseg and depth' if name in (SUMMARY_MULTITASK, SUMMARY_UNCLIPPED) else ''
        raise ConfigError(
            f'{place} should be a score of the validation: {listed}. Found {name!r}{reason}.'
            f'{suggest(str(name), [*rules, *(each.rpartition("/")[2] for each in rules), *TITLED.values()], most=0)}'
        )
    return found or str(name)


def score_rules(config: Config) -> tuple[dict[str, str | None], bool]:
    """Return the scores of the validation, each with ``'greater'``, ``'less'`` or None, and if these are all.

    A metric or a hook of another library may add some.
    """
    loader = config.get('val_dataloader')
    metrics = _metrics_of(config, 'val_evaluator')
    if not loader or not metrics:
        return {}, False
    offered = offered_labels(loader.dataset)
    rules: dict[str, str | None] = {}
    is_complete = bool(offered)
    for settings in metrics:
        cls = own_class(str(settings.get('type')))
        if not hasattr(cls, 'score_rules'):
            kind = str(settings.get('type'))
            if cls is None and any_class(kind) is None:
                raise ConfigError(
                    f'Unknown `type` in `val_evaluator`: there is no metric named {kind}.{suggest_class(kind, "metric")}'
                )
            is_complete = False
            continue
        metric = METRICS.build(dict(settings))
        metric.dataset_meta = dict(labels=offered) if offered else None
        rules |= metric.score_rules()
    for _, hook in _hooks_of(config):
        cls = any_class(hook['type'])
        own = getattr(cls, '__module__', '').partition('.')[0] in (SCOPE, 'mmengine', 'mmseg')
        is_complete &= own and not getattr(cls, 'adds_scores', False)
    if (config.get('val_cfg') or {}).get('type') == 'InferenceValLoop':
        rules['val/loss'] = 'less'
    return rules, is_complete


def _hooks_of(config: Config) -> Iterator[tuple[str, dict]]:
    """Yield the hooks of a config by their dotted keys; refuse one without a type, as a change of a hook that the base lacks."""
    named = config.get('default_hooks') or {}
    hooks = [('default_hooks', name, hook) for name, hook in named.items()]
    hooks += [('custom_hooks', index, hook) for index, hook in enumerate(config.get('custom_hooks') or ())]
    for group, name, hook in hooks:
        if isinstance(hook, Mapping) and isinstance(hook.get('type'), str):
            yield f'{group}.{name}', hook
        elif hook is not None and not isinstance(hook, str):
            known = [each for each, other in named.items() if isinstance(other, Mapping) and 'type' in other]
            nearest = suggest(str(name), known) if group == 'default_hooks' else ''
            raise ConfigError(f'`{group}.{name}` should be a dict with a `type`. Found {hook!r}.{nearest}')


def offered_labels(dataset: dict) -> dict[str, dict] | None:
    """Return configs of the labels that the data set of a config offers; None if its class does not say."""
    dataset = next(datasets_of(dataset))
    cls = own_class(dataset['type'])
    if not hasattr(cls, 'offered_labels'):
        return None
    try:
        return {name: dict(settings) for name, settings in cls.offered_labels(dataset).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f'The data set {dataset["type"]} cannot say which labels it has: {error}') from error
