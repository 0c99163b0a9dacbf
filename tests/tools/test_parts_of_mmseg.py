"""Parts and whole configs of mmseg in runs: trained, stopped, resumed bit by bit, predicted; and refused in a sentence."""

import pytest

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.errors import CheckpointError
from mtl_plugins.models.segmentors import MMSegSegmentor
from mtl_plugins.registry import MODELS
from tests.fake_miniscapes import write_fake_miniscapes
from tests.tiny import EPOCH_CONFIG, check_same_end

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
    """A whole config of mmseg, narrow."""
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


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('mmseg::segformer/nothing.py', 'There is no config mmseg::segformer/nothing.py in the installed mmseg'),
        ('mmseg::pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py', 'should learn from label maps alone. Found PIDHead'),
    ],
)
def test_a_whole_config_that_cannot_run_is_refused(run_cli, two_images, tmp_path, name, sentence):
    run_cli('train', name, '--data-root', two_images, '--work-dir', tmp_path / 'run').check_refused(sentence)
