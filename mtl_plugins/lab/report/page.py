"""From data to HTML: the templates, and what a page needs packed into it."""

import base64
import functools
import gzip
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

_TEMPLATES = Path(__file__).parent / 'templates'


def render(template: str, **values: Any) -> str:
    """HTML of a file in ``templates``, with what it shows."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def render_page(template: str, **values: Any) -> str:
    """As :func:`render`, with style, script and Plotly inside: a page that needs no other file."""
    style, script = ((_TEMPLATES / name).read_text(encoding='utf-8') for name in ('style.css', 'page.js'))
    return render(template, style=style, script=script, plotly=_packed_plotly(), **values)


@functools.cache
def _packed_plotly() -> str:
    """Plotly's script, compressed to a third: every browser of the last years unpacks it."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
