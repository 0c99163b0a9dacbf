"""The site as `make docs` builds it: strict, whole, without a network; and that its hooks refuse what is wrong."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

import repository_pages
from mtl_plugins.cli import COMMANDS, find_module
from tests.tiny import ROOT
from tool_reference import tool_files

pytest.importorskip('mkdocs')

FETCHING = {'img': 'src', 'script': 'src', 'link': 'href', 'iframe': 'src', 'source': 'src'}


class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets, self.fetched, self.anchors = [], [], {'', '__top'}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list) -> None:
        attributes = dict(attributes)
        self.anchors |= {attributes.get('id'), attributes.get('name')}
        if tag in FETCHING and attributes.get('rel') != 'canonical':
            self.fetched.append(attributes.get(FETCHING[tag]) or '')
        if tag == 'a' and 'href' in attributes:
            self.targets.append(attributes['href'])


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp('docs') / 'site'
    # Strict: a warning raises.
    build(load_config(str(ROOT / 'mkdocs.yml'), strict=True, site_dir=str(folder)))
    return folder


@pytest.fixture(scope='module')
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob('*.html') if path.name != '404.html'}


def test_links_and_anchors_lead_somewhere(pages):
    assert len(pages) > 40
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if not parts.scheme:
                found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                found = found / 'index.html' if found.is_dir() else found
                assert found.is_file(), f'{path}: {target}'
                assert found not in pages or unquote(parts.fragment) in pages[found].anchors, f'{path}: {target}'


def test_nothing_is_fetched_from_a_network(site, pages):
    for path, page in pages.items():
        for target in page.fetched:
            assert not urlsplit(target).netloc and (path.parent / unquote(urlsplit(target).path)).exists(), f'{path}: {target}'
    for style in site.rglob('*.css'):
        assert not re.search(r'url\(\s*["\']?(https?:)?//|@import', style.read_text()), style


def test_every_readme_is_a_page(site):
    readmes = [path for folder in ('configs', 'examples', 'sweeps', 'tools') for path in (ROOT / folder).rglob('*.md')]
    assert len(readmes) > 12
    for path in readmes:
        name = 'index.html' if path.name == 'README.md' else f'{path.stem}.html'
        assert (site / path.relative_to(ROOT).parent / name).is_file(), path
    assert (site / 'CHANGELOG.html').is_file() and (site / 'CONTRIBUTING.html').is_file()


def test_every_registered_class_has_an_entry_with_its_arguments(site, pages):
    entries = set.union(*(pages[site / f'reference/{name}.html'].anchors for name in ('data', 'models', 'training')))
    pattern = re.compile(r'^@[A-Z_]+\.register_module\((?:name=\'(\w+)\')?.*\)\n(?:@.*\n)*class (\w+)', re.MULTILINE)
    sources = [path.read_text() for path in (ROOT / 'mtl_plugins').rglob('*.py')]
    classes = {name or own for source in sources for name, own in pattern.findall(source)}
    assert len(classes) > 70 and classes <= entries, classes - entries
    models = (site / 'reference/models.html').read_text()
    assert 'lambda_' in models and '0.15' in models


def test_the_page_on_python_has_signatures_and_errors(site, pages):
    page = site / 'python.html'
    assert {'load_config', 'train', 'TrainingResult', 'MultiTaskInferencer', 'MultiTaskInferencer.stream'} <= pages[page].anchors
    text = page.read_text()
    for words in ('batch_size', 'Returns:', 'Raises:', 'ConfigError', 'TrainingResult', 'own_data.ipynb'):
        assert words in text, words


def test_every_tool_has_an_entry_with_its_flags(site, pages):
    page = (site / 'reference/tools.html').read_text()
    tools = {path.relative_to(ROOT).as_posix().replace('/', '-'): path for path in tool_files()}
    tools |= {f'mtl-{name.replace(" ", "-")}': Path(find_module(name).__file__) for name in COMMANDS}
    assert len(tools) > 30
    for anchor, path in tools.items():
        assert anchor in pages[site / 'reference/tools.html'].anchors
        entry = page.split(f'id="{anchor}"')[1].split('<h3')[0]
        hidden = re.findall(r"add_argument\('(--[\w-]+)'[^)]*SUPPRESS", _text(path))
        for flag in set(re.findall(r"add_argument\(\s*'(--[\w-]+)'", _text(path))) - set(hidden):
            assert flag in entry, f'{path}: {flag}'


@pytest.mark.parametrize('words', ['custom data set', 'RGB labels', 'batch size', 'out of memory', 'notebook'])
def test_the_search_index_leads_a_newcomer_to_troubleshooting(site, words):
    index = json.loads((site / 'search/search_index.js').read_text().removeprefix('var __index = '))
    sections = [
        f'{entry["title"]} {entry["text"]}'.lower() for entry in index['docs'] if entry['location'].startswith('questions.html#')
    ]
    assert any(words.lower() in section for section in sections)


def _text(path: Path) -> str:
    return path.read_text() if path.suffix == '.py' else ''


def test_a_link_to_nothing_is_a_warning_which_strict_makes_an_error(caplog):
    files, page = [SimpleNamespace(src_uri='metrics.md')], SimpleNamespace(file=SimpleNamespace(src_uri='metrics.md'))
    repository_pages.on_page_markdown('[a](../no/such/file.md)', page, None, files)
    (record,) = caplog.records
    assert record.name.startswith('mkdocs.') and 'docs/metrics.md links to ../no/such/file.md' in record.message


def test_options_are_marked_for_the_style_sheet_which_keeps_them_in_one_line(site):
    page = '<p>a --b <code>--lr 1e-4 --batch-size x--y</code></p><pre><code><span>--z</span></code></pre>'
    marked = page
    for option in ('--lr', '--batch-size'):
        marked = marked.replace(option, f'<span class="option">{option}</span>')
    assert repository_pages.on_page_content(page, None, None, None) == marked
    assert '<code><span class="option">--epochs</span></code>, ' in (site / 'data_format.html').read_text()
    assert '.option { white-space: nowrap; }' in (site / 'site.css').read_text()
