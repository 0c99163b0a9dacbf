"""The notebooks run from the first cell to the last, and are kept without outputs."""

import json
import re

import pytest

from tests.tiny import ROOT

FOLDER = ROOT / 'examples/notebooks'


@pytest.mark.parametrize('name', ['own_data', 'python_api'])
def test_a_notebook_runs_and_its_model_has_scores(name, tmp_path, monkeypatch):
    cells = json.loads((FOLDER / f'{name}.ipynb').read_text())['cells']
    programs = [cell for cell in cells if cell['cell_type'] == 'code']
    assert len(programs) > 5 and not any(cell['outputs'] or cell['execution_count'] for cell in programs)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, cell in enumerate(programs):
        exec(compile(''.join(cell['source']), f'{name}.ipynb, code cell {number}', 'exec'), names)
    # Background alone would give 25.
    assert names['result'].scores['metrics_summary/semseg'] > dict(own_data=30, python_api=0)[name]
    assert names['prediction'].side_by_side().std() > 10


def test_links_of_notebooks_lead_to_files():
    assert sorted(path.stem for path in FOLDER.glob('*.ipynb')) == ['own_data', 'python_api']
    for path in FOLDER.glob('*.ipynb'):
        text = ''.join(line for cell in json.loads(path.read_text())['cells'] for line in cell['source'])
        links = re.findall(r'\]\(([^)#\s]+)', text)
        assert len(links) >= 3 and all((FOLDER / link).is_file() for link in links), path
