"""From data to HTML: the templates, and what a page needs packed into it."""

import base64
import gzip
from pathlib import Path
from typing import Any

from mtl_plugins.errors import ConfigError

_TEMPLATES = Path(__file__).parent / 'templates'


def check_packages() -> None:
    """Refuse early.

    Raises:
        ConfigError: If Jinja2 or Plotly is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import plotly  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"Reports need the package {error.name}. Install it: pip install -e '.[report]'.") from error


def render(template: str, **values: Any) -> str:
    """A page, with style, script and Plotly inside.

    Args:
        template: Name of a file in ``templates``.
        values: What it shows.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {name: (_TEMPLATES / name).read_text(encoding='utf-8') for name in ('style.css', 'page.js')}
    # A third of its size; every browser of the last years unpacks it.
    plotly = base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
    return environment.get_template(template).render(style=parts['style.css'], script=parts['page.js'], plotly=plotly, **values)


def render_part(template: str, **values: Any) -> str:
    """A part of a page, without what is packed."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(**values)
