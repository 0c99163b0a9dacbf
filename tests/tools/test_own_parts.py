"""A user's own parts and those of mmseg in runs: trained, validated, drawn, resumed bit by bit, submitted and graded."""

import json
import runpy
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.errors import ArgumentError, CheckpointError
from mtl_plugins.evaluation.functional.depth_errors import DepthScorer
from mtl_plugins.evaluation.metrics import MultiTaskMetric
from mtl_plugins.labels.depth_codec import decode_depth
from mtl_plugins.models.segmentors import MMSegSegmentor
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import MODELS
from tests.fake_miniscapes import write_fake_miniscapes
from tests.tiny import EPOCH_CONFIG, ROOT, check_same_end

EXAMPLE = ROOT / 'examples' / 'distance_zones'


def test_the_example_runs_from_training_to_grade(run_cli, data_root, tmp_path):
    assert sum(len(path.read_text().splitlines()) for path in EXAMPLE.glob('*.py')) <= 100
    config = tmp_path / 'tiny_zones.py'
    config.write_text(f"""_base_ = ['{EXAMPLE}/joint_zones.py']
custom_imports = dict(imports=['tests.tiny', 'examples.distance_zones.distance_zones'])
model = dict(backbone=dict(_delete_=True, type='TinyBackbone'), decode_head=dict(head=dict(channels=16, skip_channels=8)))
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=1)
""")
    crop = 'train_dataloader.dataset.pipeline.1.crop_size=32'
    work_dir = tmp_path / 'run'
    run_cli('train', config, '--work-dir', work_dir, '--data-root', data_root, '--cfg-options', crop).check()
    (row,) = read_metrics(work_dir / 'metrics.csv')
    (picture,) = work_dir.rglob('predictions_*.png')
    assert np.asarray(Image.open(picture)).std() > 10

    # The label is what the mapping says: validated against the files by hand.
    (archive,) = work_dir.glob('*.zip')
    (tmp_path / 'labels' / 'zones').mkdir(parents=True)
    confusion = np.zeros((3, 3))
    with zipfile.ZipFile(archive) as content:
        for stem in range(3):
            metres = decode_depth(np.array(Image.open(data_root / 'grader/test/depth' / f'{stem}.png')))
            zones = np.where(metres == 0, 255, (metres > 10).astype(int) + (metres > 30)).astype(np.uint8)
            Image.fromarray(zones).save(tmp_path / 'labels' / 'zones' / f'{stem}.png')
            with content.open(f'predictions/zones/{stem}.png') as file:
                predicted = np.array(Image.open(file))
            assert predicted.max() <= 2
            np.add.at(confusion, (zones[zones != 255], predicted[zones != 255]), 1)
    classes = ['near', 'middle', 'far']
    (tmp_path / 'labels' / 'dataset.json').write_text(json.dumps(dict(labels=dict(zones=dict(type='ClassMap', classes=classes)))))
    graded = tmp_path / 'graded.json'
    run_cli('submission_tools/grade_submission', archive, '--labels', tmp_path / 'labels', '--json', graded).check()
    scores = json.loads(graded.read_text())
    assert set(scores) == {name for name in row if name.startswith('metrics_')}
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    expected = 100 * confusion.diagonal() / np.maximum(union, 1)
    assert [scores[f'metrics_task_zones/{name}'] for name in classes] == pytest.approx(expected.tolist())

    # Its module is imported by the config that is given, never by the one in the checkpoint.
    predict = ('inference', next(work_dir.glob('best_*.pth')), data_root / 'test/rgb/0.jpg', '--out', tmp_path / 'out', '--save')
    for more in (['--config', config], []):
        run_cli(*predict, 'pictures', 'png', *more).check()
    assert set(np.unique(np.asarray(Image.open(tmp_path / 'out/png/zones/0.png')))) <= {0, 1, 2}
    run_cli(*predict, 'points').check_refused('leave out points for a model without depth')


def test_a_metric_is_one_function_and_one_line(monkeypatch):
    monkeypatch.setattr(DepthScorer, 'listed', dict(DepthScorer.listed))
    metric = runpy.run_path(str(ROOT / 'examples' / 'depth_metric' / 'depth_metric.py'))['median_relative_error']
    images = [(np.full((2, 3), 10.0), np.full((2, 3), guess)) for guess in (11.0, 13.0)]
    images.append((np.zeros((2, 3)), np.ones((2, 3))))
    evaluated = MultiTaskMetric(tasks=['depth'])
    samples = [
        dict(gt_depth_map=dict(data=torch.from_numpy(label)[None]), pred_depth_map=dict(data=torch.from_numpy(guess)[None]))
        for label, guess in images
    ]
    evaluated.process({}, samples)
    assert evaluated.score_rules()['metrics_task_depth/median_rel'] == 'less'
    scores = evaluated.evaluate(3)
    assert scores['metrics_task_depth/median_rel'] == pytest.approx(20.0) == pytest.approx(100 * scores['metrics_task_depth/rel'])
    assert np.isnan(metric(*images[2]))
    with pytest.raises(ArgumentError, match="has a score 'rel' already"):
        DepthScorer.register('rel', higher_is_better=False)(metric)


def test_heads_and_losses_train_in_a_plain_loop(data_root):
    example = runpy.run_path(str(ROOT / 'examples/plain_pytorch/plain_pytorch.py'))
    torch.manual_seed(0)
    losses = list(example['train'](data_root / 'train', steps=10))
    assert len(losses) == 10 and set(losses[0]) == {'semseg', 'depth'}
    for task in losses[0]:
        first, last = (np.mean([step[task] for step in some]) for some in (losses[:2], losses[-2:]))
        assert last < 0.9 * first, task


SEGFORMER = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


@pytest.fixture(scope='module')
def two_images(tmp_path_factory):
    root = tmp_path_factory.mktemp('two') / 'miniscapes'
    write_fake_miniscapes(root, splits=dict(train=2, val=2, test=2), size=(64, 64))
    return root


def parts(data_root, epochs):
    """A joint model with a backbone, a head, losses and transforms of other libraries."""
    config = load_config(str(EPOCH_CONFIG), {'train_cfg.max_epochs': epochs}, str(data_root))
    strides = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    config.model.backbone = dict(type='mmseg.ResNetV1c', depth=18, base_channels=8, stem_channels=8, **strides)
    config.model.decode_head = dict(type='mmseg.SegformerHead', channels=16)
    dice = dict(type='mmseg.DiceLoss', use_sigmoid=False, loss_weight=0.5)
    config.model.tasks.semseg.loss = [dict(type='mmseg.CrossEntropyLoss'), dice]
    config.train_dataloader.dataset.pipeline[2:2] = [
        dict(type='mmseg.PhotoMetricDistortion'),
        dict(type='mmseg.RandomRotate', prob=1.0, degree=20),
        dict(type='torchvision.ColorJitter', brightness=0.4, saturation=0.4),
    ]
    return config


def whole(data_root, iterations):
    config = load_config(SEGFORMER, {'model.pretrained': False}, str(data_root))
    config.model.segmentor.backbone.update(embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 4])
    config.model.segmentor.decode_head.update(in_channels=[8, 16, 16, 32], channels=16)
    config.train_cfg.update(max_iters=iterations, val_interval=1)
    config.default_hooks.checkpoint.interval = 1
    return config


@pytest.mark.parametrize('make', [parts, whole])
def test_a_run_resumed_is_the_run_that_was_not_interrupted(make, two_images, tmp_path):
    for folder, length in (('straight', 2), ('resumed', 1), ('resumed', 2)):
        config = make(two_images, length)
        config.resume = folder == 'resumed' and length == 2
        set_work_dir(config, str(tmp_path / folder))
        config.default_hooks.pop('pictures', None)
        for split in ('train', 'val', 'test'):
            config[f'{split}_dataloader'].batch_size = 2
        config.train_dataloader.dataset.pipeline[1].crop_size = 64
        assert train(config).archive.is_file()
    check_same_end(tmp_path / 'straight', tmp_path / 'resumed', 'state_dict', 'optimizer', 'param_schedulers')


def test_the_number_of_classes_and_the_weights_of_a_whole_config(tmp_path):
    config = load_config(SEGFORMER, {'model.pretrained': False})
    assert config.train_cfg.max_iters == 160000 and config.optim_wrapper.optimizer.type == 'AdamW'
    assert config.model.tasks.semseg.num_classes == 19
    config.model.tasks.semseg.num_classes = 5
    model = MODELS.build(config.model)
    assert isinstance(model, MMSegSegmentor) and model.decode_head.num_classes == 5
    assert model.backbone.init_cfg is None
    config.model.pretrained = str(tmp_path / 'missing.pth')
    model = MODELS.build(config.model)
    with pytest.raises(CheckpointError, match=r'missing.pth.* cannot be had .*`model.pretrained=False`'):
        model.init_weights()
