"""Hook of mkdocs: READMEs of the repository are pages of the site, and links that hold in the repository hold in the site.

The Markdown files are written for readers of the repository. A page keeps its path there, but for a leading ``docs/``. In all
pages, a link to a page or to a file below ``docs/`` becomes the link within the site; of a link to other files, which the site
does not hold, the text stays. A link to what does not exist is a warning, which ``--strict`` makes an error.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('configs', 'examples', 'sweeps', 'tools')
LOG = logging.getLogger('mkdocs.hooks.repository_pages')

_FENCE = re.compile(r'(^```.*?^```$)', re.DOTALL | re.MULTILINE)
_CODE, _OPTION = re.compile(r'<code>[^<]*</code>'), re.compile(r'(?<![^\s>])--?\w[\w-]*')
_LINK = re.compile(r'(?P<image>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)')


def repository_markdown() -> list[str]:
    """Paths of the Markdown files that are pages and do not lie in ``docs/``."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob('*.md'))]
    return ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', *(path.relative_to(ROOT).as_posix() for path in found)]


def site_path(path: str) -> str:
    """The path in the site of a path in the repository."""
    return path.removeprefix('docs/')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in repository_markdown():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    # Search finds what everybody needs before what the courses' students or a few readers do.
    if any(section.title in ('Courses', 'Reference', 'Results', 'Project') for section in getattr(page, 'ancestors', ())):
        page.meta['search'] = dict(boost=0.2)
    uri = page.file.src_uri
    source = uri if uri in repository_markdown() else f'docs/{uri}'
    pages = {file.src_uri for file in files}

    def rewrite(match: re.Match) -> str:
        target, hash_, anchor = match['target'].partition('#')
        if not target or '://' in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if site_path(path) not in pages and site_path(f'{path}/README.md') in pages:
            path = f'{path}/README.md'
        if site_path(path) in pages:
            link = posixpath.relpath(site_path(path), posixpath.dirname(uri) or '.')
            return f'{match["image"]}[{match["text"]}]({link}{hash_}{anchor})'
        if not (ROOT / path).exists():
            LOG.warning(f'{source} links to {match["target"]}, and there is no {path} in the repository.')
        return match['text']

    return ''.join(part if part.startswith('```') else _LINK.sub(rewrite, part) for part in _FENCE.split(markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    # The style sheet keeps an option in one line.
    return _CODE.sub(lambda code: _OPTION.sub(r'<span class="option">\g<0></span>', code[0]), html)
