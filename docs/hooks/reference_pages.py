"""Hook of mkdocs: the pages below ``reference/``, and the entries of the page on Python, made from the code with the site."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

from class_reference import class_pages, python_sections
from tool_reference import tool_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in {**class_pages(), 'tools': tool_page()}.items():
        files.append(File.generated(config, f'reference/{name}.md', content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return markdown + python_sections() if page.file.src_uri == 'python.md' else markdown
