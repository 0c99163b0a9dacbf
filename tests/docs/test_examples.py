"""The Python examples of the pages run, one after the other, in an empty folder from which the configs are seen."""

import re

import pytest

from tests.tiny import ROOT

# Those of add_your_own.md are excerpts; tests/datasets/test_other_data_train.py trains those of datasets.md.
PAGES = ('data_format', 'metrics', 'questions')
EXAMPLES = [
    pytest.param(code, id=f'{page}-{number}')
    for page in PAGES
    for number, code in enumerate(re.findall(r'^```python\n(.*?)^```$', (ROOT / f'docs/{page}.md').read_text(), re.M | re.S))
]


@pytest.mark.parametrize('code', EXAMPLES)
def test_an_example_runs_and_what_it_asserts_holds(code, tmp_path, monkeypatch):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)
    assert 'assert ' in code
    exec(compile(code, 'example', 'exec'), {})


def test_each_page_has_an_example():
    assert {example.id.rsplit('-', 1)[0] for example in EXAMPLES} == set(PAGES)
