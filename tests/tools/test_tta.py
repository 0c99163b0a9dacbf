"""`tools/test.py --tta` from a checkpoint to a graded archive."""

import json
import zipfile

import pytest
import torch

from mtl_plugins.config.load import load_config
from mtl_plugins.registry import MODELS

IDENTITY = ('tta_model.scales=[1.0]', 'tta_model.flip=False')


@pytest.fixture
def run_test(run_cli, tiny_config_file, data_root, tmp_path):
    """``run_test(name, *arguments)`` runs the tool with a checkpoint and a work dir of that name."""
    torch.manual_seed(0)
    model = MODELS.build(load_config(str(tiny_config_file)).model)
    predictor = next(module for name, module in model.named_modules() if name.endswith('predictor'))
    # Without training, one class is the largest everywhere, and all is about 1 m away, nearer than the codes of a PNG.
    predictor.weight.data *= 100
    predictor.bias.data[19] += 3
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    common = ('test', tiny_config_file, tmp_path / 'weights.pth', '--data-root', data_root, '--work-dir')
    return lambda name, *arguments: run_cli(*common, tmp_path / name, *arguments)


def test_merged_predictions_are_submitted_and_graded(run_test, run_cli, data_root, tmp_path):
    archives, files = {}, {}
    for name, arguments in dict(plain=[], merged=['--tta'], identity=['--tta', '--cfg-options', *IDENTITY]).items():
        archives[name] = tmp_path / f'{name}.zip'
        result = run_test(name, '--split', 'test', '--submission', archives[name], *arguments)
        assert result.code == 0, result.err
        with zipfile.ZipFile(archives[name]) as content:
            files[name] = {each: content.read(each) for each in content.namelist() if each.startswith('predictions/')}
    assert files['plain'] == files['identity']
    plain, merged, archive = files['plain'], files['merged'], archives['merged']
    assert plain.keys() == merged.keys() and len(plain) == 6
    changed = {name.split('/')[1] for name in plain if plain[name] != merged[name]}
    assert changed == {'semseg', 'depth'}
    (log,) = (tmp_path / 'merged').glob('*/*.log')
    assert 'Test-time augmentation: 6 views (scale 0.75, 1, 1.25, each also mirrored), merging semseg: mean' in log.read_text()
    scores = tmp_path / 'scores.json'
    graded = run_cli('submission_tools/grade_submission', archive, '--labels', data_root / 'grader' / 'test', '--json', scores)
    assert graded.code == 0, graded.err
    assert 'metrics_summary/multitask' in json.loads(scores.read_text())


def test_a_split_with_labels_is_evaluated(run_test, tmp_path):
    scores = {}
    by_task = 'tta_model.scales={"semseg":[0.5,1.0],"depth":[1.0]}'
    own = ['--tta', '--cfg-options', by_task, 'tta_model.merge.depth=median']
    for name, arguments in dict(plain=[], merged=['--tta'], own=own).items():
        result = run_test(name, '--json', tmp_path / 'scores.json', *arguments)
        assert result.code == 0, result.err
        scores[name] = json.loads((tmp_path / 'scores.json').read_text())
    assert scores['plain'].keys() == scores['merged'].keys() == scores['own'].keys()
    assert len({str(each) for each in scores.values()}) == 3


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['tta_model.scales=[]'], ['`scales`', 'Found []']),
        (['tta_model.scale=[1.0]'], ['MultiTaskTTAModel', '`scales`']),
        (['tta_model.merge.depth=mean'], ['`merge.depth`', "['log', 'metres', 'max', 'median']", "'mean'"]),
        (['test_cfg.type=TestLoop'], ['`--tta`', 'InferenceTestLoop', 'TestLoop']),
        (['tta_model=None'], ['`--tta`', 'default_runtime.py']),
    ],
)
def test_what_cannot_be_merged_is_one_sentence(run_test, arguments, words):
    result = run_test('work', '--tta', '--cfg-options', *arguments)
    assert result.code == 1 and result.err.startswith('error: ') and result.err.count('\n') == 1, result.err
    assert all(word in result.err for word in words)
