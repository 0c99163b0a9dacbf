"""The picture of depth bins: what the tool writes and refuses."""

import numpy as np
import pytest
from PIL import Image

from tests.tiny import ROOT
from tests.tools.photographs import save_weights

CONFIG = """_base_ = ['{root}/configs/{base}']
custom_imports = dict(imports=['tests.tiny'])
model = dict(backbone=dict(_delete_=True, type='TinyBackbone'), decode_head=dict(head=dict(channels=16{more})))
"""
MORE = ', num_bins=16, head=dict(channels=16, skip_channels=8)'
BASES = {
    'adaptive': ('adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py', MORE),
    'fixed': ('fixed_bins/fixed_bins_r18-d16_1xb16-32e_miniscapes-256x256.py', MORE),
    'joint': ('joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py', ''),
}


@pytest.fixture
def trained(tmp_path):
    """Config file and checkpoint of a kind of model."""

    def make(kind: str):
        base, more = BASES[kind]
        config = tmp_path / f'{kind}.py'
        config.write_text(CONFIG.format(root=ROOT, base=base, more=more))
        return config, save_weights(tmp_path / f'{kind}.pth', config)

    return make


@pytest.mark.parametrize('kind', ['adaptive', 'fixed'])
def test_samples_of_a_data_root_become_a_picture(run_cli, trained, data_root, tmp_path, kind):
    out = tmp_path / 'bins.png'
    arguments = ('--data-root', data_root, '--indices', 2, 0, '--out', out)
    assert '2 samples, 16 bins' in run_cli('analysis_tools/show_bins', *trained(kind), *arguments).check().out
    with Image.open(out) as picture:
        assert picture.format == 'PNG' and picture.width > 900 and len(picture.getcolors(2**24)) > 100


def test_image_files_become_a_jpeg_without_labels(run_cli, trained, tmp_path):
    # An odd size is padded for the network and cropped again; a palette PNG is an image, too.
    image = tmp_path / 'image.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (45, 77), np.uint8)).convert('P').save(image)
    run_cli('analysis_tools/show_bins', *trained('adaptive'), image, '--out', tmp_path / 'bins.jpg').check()
    with Image.open(tmp_path / 'bins.jpg') as picture:
        assert picture.format == 'JPEG'


@pytest.mark.parametrize(
    ('kind', 'arguments', 'words'),
    [
        ('joint', ['--data-root', '{data_root}'], ['bins', 'AdaptiveDepthHead', 'JointHead']),
        ('fixed', ['--data-root', '{data_root}', '--indices', '3'], ['--indices', '0..2', 'Found 3']),
        ('fixed', ['no_such_image.jpg'], ['no_such_image.jpg', 'does not exist']),
        ('fixed', [__file__], ['test_show_bins.py', 'should be a JPEG']),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(run_cli, trained, data_root, tmp_path, kind, arguments, words):
    arguments = [argument.format(data_root=data_root) for argument in arguments]
    run_cli('analysis_tools/show_bins', *trained(kind), *arguments, '--out', tmp_path / 'bins.png').check_refused(*words)
    assert not (tmp_path / 'bins.png').exists()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [([], 'give either images or --data-root'), (['a.jpg', '--data-root', 'd'], 'either'), (['a.jpg', '--out', 'x.gif'], '.png')],
)
def test_wrong_arguments_are_refused(run_cli, arguments, words):
    result = run_cli('analysis_tools/show_bins', 'config.py', 'checkpoint.pth', '--out', 'x.png', *arguments)
    assert result.code == 2 and words in result.err
