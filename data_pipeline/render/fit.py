"""How large the letters may be: the size at which a page's text fills the page and still fits it."""

from collections.abc import Sequence
from dataclasses import replace

from data_pipeline.errors import DataError
from data_pipeline.render.page import Engine, PageStyle

STEP = 0.5  # px; sizes are multiples of it
SMALLEST = 5.0  # px: below it DejaVu is not legible
FITTING = 0.95  # share of the texts that must fit whole


def largest_font(texts: Sequence[str], style: PageStyle, engine: Engine) -> float:
    """The largest font size (px, in steps of STEP) at which FITTING of `texts` are whole on a page of `style`.

    Worst case of the jitter. Raises DataError when the texts do not fit even at SMALLEST.
    """
    style = replace(style, offset=(style.jitter, style.jitter))
    low, high = round(SMALLEST / STEP), round(style.height / STEP)
    if _fitting(texts, replace(style, font_px=SMALLEST), engine) < FITTING:
        size = max(len(text.encode()) for text in texts)
        raise DataError(
            f"a page of {style.width} x {style.height} px is too small for its text of {size} bytes, even in letters of "
            f"{SMALLEST} px: use a larger corpus.page.size=, lower corpus.ratios=, or set corpus.page.font_px="
        )
    while high - low > 1:
        middle = (low + high) // 2
        if _fitting(texts, replace(style, font_px=middle * STEP), engine) >= FITTING:
            low = middle
        else:
            high = middle
    return low * STEP


def _fitting(texts: Sequence[str], style: PageStyle, engine: Engine) -> float:
    """Share of the texts of which every line fits the page; a missing glyph does not count against it."""
    whole = 0
    for text in texts:
        drawing = engine.draw(text, style)
        whole += bool(drawing.missing) or (
            bool(drawing.lines) and drawing.lines[-1].end >= len(text.rstrip())
        )
    return whole / len(texts)
