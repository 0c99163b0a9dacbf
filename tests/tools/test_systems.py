"""Every system trains, validates, submits and resumes, tiny; every config takes two steps."""

import itertools
import re
import zipfile

import pytest
import torch

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import RUNNERS
from tests.datasets.layouts import write_camvid, write_cityscapes, write_nyuv2_pictures
from tests.fake_folders import write_fake_crops
from tests.test_configs import DENSE, LEAVES, each_of, narrow
from tests.tiny import CONFIGS, check_same_end, shrink_data, tiny_config
from tests.tools.conftest import call_tool

TASKS = ('semseg', 'depth')
SYSTEMS = {
    'baseline_r18-d32_1xb16-16e': TASKS,
    'baseline-semseg_r18-d32_1xb16-16e': ('semseg',),
    'deeplabv3plus-semseg_r18-d16_1xb16-32e': ('semseg',),
    'deeplabv3plus-depth_r18-d16_1xb16-32e': ('depth',),
    'branched_r18-d16_1xb16-32e': TASKS,
    'distilled_r18-d16_1xb16-32e': TASKS,
    'distilled_r34-d16_1xb4-64e_course2020-deep-pretrained': TASKS,
    'fixed_bins_r18-d16_1xb16-32e': ('depth',),
    'adaptive_depth_r18-d16_1xb16-32e': ('depth',),
    'transformer_multitask-self_r18-d16_1xb16-32e': TASKS,
    'transformer_multitask-cross_r18-d16_1xb16-32e': TASKS,
}
# One of each family; the others share all that a resumption could lose.
RESUMED = ('distilled_r18-d16_1xb16-32e', 'adaptive_depth_r18-d16_1xb16-32e')


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch):
    """mmengine pretty-prints the config for each checkpoint and log: that would take as long as all the rest here."""
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda code, **_: (code, True))


@pytest.fixture
def run(data_root, tmp_path):
    """``run(system, folder, epochs)`` trains its config, tiny, and gives the result."""

    def run(system, folder, epochs, submission=False, resume=False):
        (path,) = CONFIGS.glob(f'*/{system}_miniscapes-256x256.py')
        config = tiny_config(data_root, tmp_path / folder, path, train_cfg__max_epochs=epochs, resume=resume)
        config.submission.enabled = submission
        # Then the random numbers have to be those of an uninterrupted run, too.
        for head in (config.model.decode_head.head, *config.model.decode_head.get('task_heads', {}).values()):
            if 'dropout' in head:
                head.dropout = 0.1
        return train(config)

    return run


def check_scores_and_archive(result, tasks) -> None:
    rows = read_metrics(result.archive.parent / 'metrics.csv')
    assert rows and all({task for task in TASKS if row.get(f'metrics_summary/{task}')} == set(tasks) for row in rows)
    with zipfile.ZipFile(result.archive) as archive:
        predictions = {name for name in archive.namelist() if name.startswith('predictions/')}
    assert predictions == {f'predictions/{task}/{stem}.png' for task in tasks for stem in range(3)}


@pytest.mark.parametrize('system', [name for name in SYSTEMS if name not in RESUMED])
def test_a_system_trains_validates_and_submits(run, system):
    check_scores_and_archive(run(system, 'run', 1, submission=True), SYSTEMS[system])


@pytest.mark.parametrize('system', [pytest.param(name, marks=() if name in RESUMED else pytest.mark.slow) for name in SYSTEMS])
def test_a_system_resumes_exactly(run, tmp_path, system):
    check_scores_and_archive(run(system, 'straight', 2, submission=True), SYSTEMS[system])
    run(system, 'resumed', 1)
    run(system, 'resumed', 2, resume=True)
    check_same_end(tmp_path / 'straight', tmp_path / 'resumed', 'state_dict', 'optimizer')
    assert (tmp_path / 'straight' / 'metrics.csv').read_text() == (tmp_path / 'resumed' / 'metrics.csv').read_text()


FOUR = {'train_dataloader.dataset.indices': 4, 'train_dataloader.num_workers': 0}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """Tiny data for each data set that the names of configs end with, with four training samples or more."""
    folder = tmp_path_factory.mktemp('roots')
    scenes, coco, few = folder / 'scenes', folder / 'coco', ('--val', 2, '--workers', 1)
    labels = ('--labels', 'semseg', 'depth', 'normals', 'boundary')
    assert not call_tool('dataset_tools/make_dataset', scenes, '--train', 4, '--test', 1, '--size', '64x128', *few, *labels)
    assert not call_tool('dataset_tools/make_coco', coco, '--train', 4, '--size', '64x96', *few)
    write_fake_crops(coco, train=2, val=1)
    (coco / 'crops/images').mkdir()
    (coco / 'crops/images/256').symlink_to(coco / 'crops')
    for place, split in itertools.product(('images/{}', '{}', 'annotations/instances_{}.json', 'crops/{}'), ('train', 'val')):
        if (coco / place.format(split)).exists():
            (coco / place.format(f'{split}2017')).symlink_to(coco / place.format(split))
    write_nyuv2_pictures(folder / 'nyuv2', train=4, test=2)
    write_camvid(folder / 'camvid')
    roots = dict(cityscapes=write_cityscapes(folder / 'cityscapes'), synthetic=scenes)
    roots |= dict(nyuv2=folder / 'nyuv2', camvid=folder / 'camvid')
    return {
        **roots,
        **dict.fromkeys(('miniscapes', 'own-folder'), scenes),
        **dict.fromkeys(('synthetic-coco', 'coco', 'coco-crops'), coco),
    }


@pytest.mark.slow
@each_of(LEAVES)
def test_every_config_takes_two_training_steps(path, roots, tmp_path):
    """The models of dense tasks on narrow heads; batches of two, small crops, no validation."""
    plain = load_config(str(path))
    by_epoch = {'train_cfg.max_epochs': 1, 'train_cfg.val_begin': 2}
    length = by_epoch if 'max_epochs' in plain.train_cfg else {'train_cfg.max_iters': 2}
    data = roots[re.search(r'_([a-z0-9-]+)-\d+x\d+$', path.stem)[1]]
    config = load_config(str(path), {**shrink_data(plain), **length, **FOUR, 'load_from': None}, str(data))
    config.model = narrow(path) if path in DENSE else config.model
    if 'segmentor' in config.model:
        config.model.pretrained = False
    config.default_hooks.features = None  # It needs more neighbours than there are samples.
    for part in (config.model, config.model.get('backbone', {}), config.model.get('decode_head', {}).get('head', {})):
        part.pop('init_cfg', None)
    set_work_dir(config, str(tmp_path / 'run'))
    runner = RUNNERS.build(config)
    losses, take_step = [], runner.model.train_step
    runner.model.train_step = lambda *arguments, **options: losses.append(take_step(*arguments, **options)) or losses[-1]
    before = {name: value.detach().clone() for name, value in runner.model.named_parameters() if value.requires_grad}
    runner.train()
    assert runner.iter == len(losses) == 2 and all(torch.isfinite(step['loss']) for step in losses)
    after = dict(runner.model.named_parameters())
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
