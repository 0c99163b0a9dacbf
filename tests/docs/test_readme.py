"""What the README says in numbers is what the READMEs of the configs say, which tests/test_configs.py counts."""

import re

from tests.tiny import ROOT


def test_parameters_are_those_of_a_config_of_the_row():
    rows = re.findall(r'^\| (\[`.*?) \| .* \| ([\d., M]*) ?\|$', (ROOT / 'README.md').read_text(), re.MULTILINE)
    folders = {path.parent.name for path in ROOT.glob('configs/[!_]*/README.md')}
    named = set()
    for links, stated in rows:
        inside = re.findall(r'\(configs/(\w+)/README.md\)', links)
        named |= set(inside)
        texts = [(ROOT / f'configs/{folder}/README.md').read_text() for folder in inside]
        counted = {int(count.replace(',', '')) for text in texts for count in re.findall(r' \| ([\d,]+) \|$', text, re.MULTILINE)}
        for number in re.findall(r'[\d.]+', stated):
            assert float(number) in {round(count / 1e6, 2) for count in counted}, links
    assert named == folders - {'quickstart'}
