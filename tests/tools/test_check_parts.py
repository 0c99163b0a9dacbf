"""Parts of other libraries in whole runs: trained, stopped, resumed bit by bit, predicted; and the tool that tries them all."""

import json
import re

import pytest

from benchmarks.mmseg_parts import BACKBONES, HEADS, LOSSES, TRANSFORMS, all_rows, check, joint
from mtl_plugins.config.load import load_config
from mtl_plugins.errors import CheckpointError
from mtl_plugins.models.segmentors import MMSegSegmentor
from mtl_plugins.registry import MODELS
from tests.fake_miniscapes import write_fake_miniscapes

SEGFORMER = 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


@pytest.fixture(scope='module')
def two_images(tmp_path_factory):
    root = tmp_path_factory.mktemp('two') / 'miniscapes'
    write_fake_miniscapes(root, splits=dict(train=2, val=2, test=2), size=(64, 64))
    return root


def one_of_each(config):
    config.model.backbone = BACKBONES['ResNetV1c, output stride 8']
    config.model.decode_head = HEADS['SegformerHead']
    config.model.tasks.semseg.update(LOSSES['CrossEntropyLoss + DiceLoss'])
    steps = [TRANSFORMS[name] for name in ('PhotoMetricDistortion', 'RandomRotate', 'torchvision.ColorJitter')]
    config.train_dataloader.dataset.pipeline[2:2] = steps


@pytest.mark.parametrize('row', [joint(one_of_each), all_rows()[f'whole config: {SEGFORMER}']], ids=['parts', 'whole'])
def test_a_run_resumed_is_the_run_that_was_not_interrupted(row, two_images, tmp_path):
    result = check(row, two_images, tmp_path / 'run')
    assert result['outcome'] == 'works', result


def test_what_cannot_work_is_told_in_a_sentence(two_images, tmp_path):
    result = check(all_rows()['head: OCRHead'], two_images, tmp_path / 'run')
    assert result['outcome'] == 'refused' and 'needs the prediction of another head' in result['sentence']


def test_the_number_of_classes_and_the_weights_of_a_whole_config(tmp_path):
    config = load_config(f'mmseg::{SEGFORMER}', {'model.pretrained': False})
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
    result = run_cli('train', name, '--data-root', two_images, '--work-dir', tmp_path / 'run')
    assert result.code == 1 and sentence in result.err and len(result.err.strip().splitlines()) == 1


def test_the_tool_goes_on_where_it_was(run_cli, tmp_path):
    files = ('--json', tmp_path / 'parts.json', '--markdown', tmp_path / 'parts.md', '--work-dir', tmp_path / 'work')
    for rows in (['OCRHead'], ['head: OCRHead', 'head: Mask2FormerHead']):
        result = run_cli('analysis_tools/check_parts', *files, '--only', *rows)
        assert result.code == 0, result.err
    # The first row has a result already.
    assert re.findall(r'^(head: \w+): refused', result.out, re.MULTILINE) == ['head: Mask2FormerHead']
    assert list(json.loads((tmp_path / 'parts.json').read_text())['rows']) == ['head: OCRHead', 'head: Mask2FormerHead']
    table = (tmp_path / 'parts.md').read_text()
    assert '0 of 2 work' in table and table.count('| refused: ') == 2


@pytest.mark.slow
@pytest.mark.parametrize('name', all_rows())
def test_every_row_works_or_is_refused_in_a_sentence(name, two_images, tmp_path):
    if 'albumentations' in name:
        pytest.importorskip('albumentations')
    assert check(all_rows()[name], two_images, tmp_path / 'run')['outcome'] in ('works', 'refused')
