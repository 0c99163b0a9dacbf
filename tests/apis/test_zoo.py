"""Trained models as folders and by name: saved, read back, tampered with, fine-tuned, and those that are shipped."""

import json
import re

import numpy as np
import pytest
import torch

from mtl_plugins.apis.inference import MultiTaskInferencer
from mtl_plugins.cli.trained import check_file
from mtl_plugins.errors import CheckpointError, ConfigError
from mtl_plugins.lab.zoo import index_text, page_text, probe, probe_images
from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils import zoo
from mtl_plugins.utils.checkpoint_io import load_checkpoint_file
from tests.tiny import ROOT, tiny_config
from tests.tools.photographs import save_checkpoint

MOST_MEGABYTES = 20


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """A checkpoint, and its folders with float32 and float16 weights."""
    folder = tmp_path_factory.mktemp('pretrained')
    inferencer = MultiTaskInferencer(save_checkpoint(folder / 'x.pth'))
    inferencer.save_pretrained(folder / 'full', half=False)
    inferencer.save_pretrained(folder / 'half')
    return folder


@pytest.fixture
def tiny_zoo(folders, monkeypatch):
    """The names `full` and `half`."""
    monkeypatch.setattr(zoo, 'ZOO', folders)


def _predict(model):
    return [each.values for each in MultiTaskInferencer.from_pretrained(model, device='cpu')(probe_images())]


def _check_equal(one, other):
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys() == {'semseg', 'depth'}
        for name, values in left.items():
            np.testing.assert_array_equal(values, right[name])


def test_a_folder_predicts_what_the_checkpoint_did(folders, tmp_path):
    _check_equal(_predict(folders / 'x.pth'), _predict(folders / 'full'))
    # Rounded once: float16 weights saved again are the same.
    MultiTaskInferencer(folders / 'half').save_pretrained(tmp_path / 'again')
    _check_equal(_predict(folders / 'half'), _predict(tmp_path / 'again'))
    for name in (zoo.WEIGHTS_NAME, zoo.CONFIG_NAME):
        assert (tmp_path / 'again' / name).read_bytes() == (folders / 'half' / name).read_bytes()
    card = (folders / 'half' / zoo.CARD_NAME).read_text()
    assert card.startswith('---\nlibrary_name: mtl_plugins\n') and 'Predicts semseg (19 classes) and depth from one' in card


def test_what_float16_rounds(folders):
    full, half = (load_checkpoint_file(folders / name)['state_dict'] for name in ('full', 'half'))
    assert full.keys() == half.keys()
    for name, value in full.items():
        assert half[name].dtype == (torch.float16 if value.is_floating_point() else value.dtype)
        torch.testing.assert_close(half[name].to(value.dtype), value, rtol=2**-11, atol=2**-25)


def test_weights_beyond_float16_stay_as_they_are(folders, tmp_path):
    checkpoint = torch.load(folders / 'x.pth', weights_only=True)
    name = next(name for name in checkpoint['state_dict'] if name.endswith('running_var'))
    checkpoint['state_dict'][name][0] = 1e5
    torch.save(checkpoint, tmp_path / 'large.pth')
    MultiTaskInferencer(tmp_path / 'large.pth').save_pretrained(tmp_path / 'large')
    found = load_checkpoint_file(tmp_path / 'large')['state_dict'][name]
    assert found.dtype == torch.float32 and torch.equal(found, checkpoint['state_dict'][name])


@pytest.mark.usefixtures('tiny_zoo')
def test_names_stand_for_folders_and_unknown_ones_are_listed(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _check_equal(_predict('half'), _predict(folders / 'half'))
    with pytest.raises(CheckpointError, match=r'Checkpoint hlaf does not exist, nor a model of that name .*: full, half\.'):
        MultiTaskInferencer('hlaf')
    with pytest.raises(CheckpointError, match=r'nor a model of that name in the zoo: full, half\.'):
        check_file('hlaf')
    with pytest.raises(CheckpointError, match=r'Checkpoint some/hlaf does not exist\.'):
        MultiTaskInferencer('some/hlaf')


@pytest.mark.parametrize('name', [zoo.WEIGHTS_NAME, zoo.CONFIG_NAME])
def test_a_changed_file_is_refused(folders, tmp_path, name):
    for each in (zoo.WEIGHTS_NAME, zoo.CONFIG_NAME):
        (tmp_path / each).write_bytes((folders / 'half' / each).read_bytes())
    whole = (tmp_path / name).read_bytes()
    if name == zoo.WEIGHTS_NAME:
        (tmp_path / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        expected = pytest.raises(CheckpointError, match=r'model\.safetensors should have the SHA-256 \w{64} .* Found \w{64}')
    else:
        (tmp_path / name).write_bytes(whole.replace(b'"TinyBackbone"', b'"subprocess.run"'))
        expected = pytest.raises(ConfigError, match=r"classes as `type`\. Found 'subprocess\.run'")
    with expected:
        MultiTaskInferencer(tmp_path)


@pytest.mark.usefixtures('tiny_zoo')
def test_fine_tuning_loads_what_fits_and_says_what_does_not(data_root, tmp_path, caplog):
    classes = ['near', 'far']
    labels = dict(semseg=dict(type='ClassMap', classes=classes), depth=dict(type='DepthMap'))
    config = tiny_config(data_root, tmp_path / 'run', load_from='half')
    config.model.data_preprocessor.labels = labels
    config.model.tasks.semseg.num_classes = len(classes)
    runner = RUNNERS.build(config)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.load_or_resume()
    after, saved = runner.model.state_dict(), load_checkpoint_file('half')['state_dict']
    for name, value in after.items():
        expected = saved[name].to(value.dtype) if saved[name].shape == value.shape else before[name]
        assert torch.equal(value, expected), name
    left = [name for name in after if saved[name].shape != after[name].shape]
    assert left and all('predictor' in name for name in left)
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    (line,) = re.findall(r'\d+ of the \d+ weights of half fit\. Left out: (.*)\. New: (.*)\.', log)
    assert [sorted(names.split(', ')) for names in line] == [sorted(left)] * 2
    # A file must fit, as before, and so must a model that is tested.
    with pytest.raises(CheckpointError, match='belongs to another architecture'):
        runner.start_from('half')


@pytest.mark.parametrize('name', zoo.zoo_names())
def test_a_shipped_model_predicts_what_it_did(name):
    expected = zoo.read_description(zoo.ZOO / name)['about']['probe']
    inferencer = MultiTaskInferencer.from_pretrained(name, device='cpu')
    # `mtl zoo` with another number of threads wrote a digest that was not met here.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = probe(inferencer)
    torch.set_num_threads(threads)
    assert found['sha256'] == expected['sha256'] or found['machine'] != expected['machine']
    for label, kind in inferencer.labels.items():
        ours, theirs = (np.array(each['values'][label].split(), float) for each in (found, expected))
        if kind.is_class_map:
            assert (ours == theirs).mean() > 0.98
        else:
            np.testing.assert_allclose(ours, theirs, rtol=0.01, atol=0.01)


def test_the_zoo_is_small_and_its_tables_are_those_of_its_files():
    assert sum(path.stat().st_size for path in zoo.ZOO.rglob('*')) < MOST_MEGABYTES * 1e6
    page = (ROOT / 'docs/zoo.md').read_text()
    assert page == page_text(page) and (ROOT / 'model-index.yml').read_text() == index_text()
    for name in zoo.zoo_names():
        text = json.dumps(zoo.read_description(zoo.ZOO / name)) + (zoo.ZOO / name / zoo.CARD_NAME).read_text()
        assert not re.search(r'[ "`](/\w|~)', text), name
