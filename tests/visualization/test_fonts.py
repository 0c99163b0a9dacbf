"""Names in any script: drawn in a font that has them, or one warning."""

import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from mtl_plugins.visualization import plots as fonts
from mtl_plugins.visualization.plots import to_array

# Of those of matplotlib's own fonts, letters that only STIX has.
STIX = '\u1d81\u1d84\u1d8a'
NOWHERE = '\u9053\u8def'


@pytest.fixture(autouse=True)
def own_fonts(monkeypatch):
    """matplotlib's own fonts alone, and no memory of warnings."""
    own = [font for font in font_manager.fontManager.ttflist if 'mpl-data' in font.fname]
    monkeypatch.setattr(font_manager.fontManager, 'ttflist', own)
    fonts._font_for.cache_clear()
    fonts._warn_once.cache_clear()
    yield
    fonts._font_for.cache_clear()
    fonts._warn_once.cache_clear()


def draw(text: str) -> np.ndarray:
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, text, fontsize=20)
    return to_array(figure)


def test_a_font_that_has_the_letters_is_found(monkeypatch):
    said = []
    monkeypatch.setattr(fonts, 'print_log', lambda *arguments: said.append(arguments))
    assert fonts.families_for('road') == fonts.families_for('Stra\u00dfe') == ['DejaVu Sans']
    assert fonts.families_for(f'a {STIX}') == ['DejaVu Sans', 'STIXGeneral']
    assert fonts.pil_font(STIX, 12).getname()[0] == 'STIXGeneral' and fonts.pil_font('road', 12).getname()[0] != 'STIXGeneral'
    # Different letters are different pixels, which boxes are not.
    assert not np.array_equal(draw(STIX), draw(STIX[::-1])) and not said


def test_letters_that_no_font_has_cost_one_warning(monkeypatch):
    """matplotlib warned of every letter whenever it was drawn."""
    said = []
    monkeypatch.setattr(fonts, 'print_log', lambda *arguments: said.append(arguments))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(2):
            draw(NOWHERE)
            fonts.pil_font(NOWHERE + 'x', 12)
    assert len(said) == 1 and 'fonts-noto-cjk' in said[0][0]
