"""Hook of mkdocs: the pages below ``reference/``, made from the code while the site is built."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from class_reference import class_pages
from tool_reference import tool_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in {**class_pages(), 'tools': tool_page()}.items():
        files.append(File.generated(config, f'reference/{name}.md', content=text))
    return files
