"""`tools/test.py --tta` from a checkpoint to a graded archive."""

import json
import zipfile

import pytest
import torch

from mtl_plugins.config.load import load_config
from mtl_plugins.registry import MODELS

IDENTITY = ('tta_model.scales=[1.0]', 'tta_model.flip=False')


@pytest.fixture
def checkpoint(tiny_config_file, tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(load_config(str(tiny_config_file)).model)
    predictor = next(module for name, module in model.named_modules() if name.endswith('predictor'))
    # Without training, one class is the largest everywhere, and all is about 1 m away, nearer than the codes of a PNG.
    predictor.weight.data *= 100
    predictor.bias.data[19] += 3
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    return tmp_path / 'weights.pth'


@pytest.fixture
def predict(run_cli, tiny_config_file, checkpoint, data_root, tmp_path):
    """Predict the test split; gives the archive and its prediction images by name."""

    def run(name, *arguments):
        archive = tmp_path / f'{name}.zip'
        result = run_cli(
            'test', tiny_config_file, checkpoint, '--split', 'test', '--submission', archive,
            '--data-root', data_root, '--work-dir', tmp_path / name, *arguments,
        )  # fmt: skip
        assert result.code == 0, result.err
        with zipfile.ZipFile(archive) as content:
            return archive, {name: content.read(name) for name in content.namelist() if name.startswith('predictions/')}

    return run


def test_merged_predictions_are_submitted_and_graded(predict, run_cli, data_root, tmp_path):
    _, plain = predict('plain')
    archive, merged = predict('merged', '--tta')
    assert plain.keys() == merged.keys() and len(plain) == 6
    changed = {name.split('/')[1] for name in plain if plain[name] != merged[name]}
    assert changed == {'semseg', 'depth'}
    (log,) = (tmp_path / 'merged').glob('*/*.log')
    assert 'Test-time augmentation: 6 views (scale 0.75, 1, 1.25, each also mirrored), merging semseg: mean' in log.read_text()
    scores = tmp_path / 'scores.json'
    graded = run_cli('submission_tools/grade_submission', archive, '--labels', data_root / 'grader' / 'test', '--json', scores)
    assert graded.code == 0, graded.err
    assert 'metrics_summary/multitask' in json.loads(scores.read_text())


def test_identity_views_write_the_same_bytes(predict):
    assert predict('plain')[1] == predict('identity', '--tta', '--cfg-options', *IDENTITY)[1]


def test_a_split_with_labels_is_evaluated(run_cli, tiny_config_file, checkpoint, data_root, tmp_path):
    scores = {}
    for name, arguments in dict(plain=[], merged=['--tta'], identity=['--tta', '--cfg-options', *IDENTITY]).items():
        result = run_cli(
            'test', tiny_config_file, checkpoint, '--data-root', data_root, '--work-dir', tmp_path / name,
            '--json', tmp_path / 'scores.json', *arguments,
        )  # fmt: skip
        assert result.code == 0, result.err
        scores[name] = json.loads((tmp_path / 'scores.json').read_text())
    assert scores['identity'] == scores['plain'] != scores['merged']


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['tta_model.scales=[]'], ['`scales`', 'Found []']),
        (['tta_model.scale=[1.0]'], ['MultiTaskTTAModel', '`scales`']),
        (['tta_model.merge.depth=max'], ['`merge.depth`', "['log', 'metres']", "'max'"]),
        (['test_cfg.type=TestLoop'], ['`--tta`', 'InferenceTestLoop', 'TestLoop']),
        (['tta_model=None'], ['`--tta`', 'default_runtime.py']),
    ],
)
def test_what_cannot_be_merged_is_one_sentence(run_cli, tiny_config_file, checkpoint, data_root, tmp_path, arguments, words):
    result = run_cli(
        'test', tiny_config_file, checkpoint, '--data-root', data_root, '--work-dir', tmp_path / 'work',
        '--tta', '--cfg-options', *arguments,
    )  # fmt: skip
    assert result.code == 1
    assert result.err.startswith('error: ') and result.err.count('\n') == 1, result.err
    for word in words:
        assert word in result.err
