r"""What counts of a text, of a formula: the normal forms in which OmniDocBench compares them.

Markdown can say the same in many ways. Of text, only letters, digits and underscores count, and formulas inside
it as the characters they show; of a formula, fonts, spacing, numbering and delimiters do not count.

The benchmark takes commands of appearance away wherever they begin, in `\rightarrow` too ("arrow" stays). Figures
can be compared with its own only where the same is done here.
"""

import logging
import re
from functools import lru_cache
from typing import Any

from train.evaluate.metrics.extra import extra

INLINE = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
_MATHEMATICAL = re.compile(r"[\\^_]")
_ESCAPED = re.compile(r"\\([\\_&%^])")
_NO_WORD = re.compile(r"[^\w]")
_WRITTEN_OUT = re.compile(r"[\\/][tn]")  # tabs and line ends as two characters, which some annotations hold

_BRACKETED = re.compile(r"\\\[(.+?)(?<!\\)\\\]", re.DOTALL)
_WITH_ARGUMENT = re.compile(r"\\(?:tag|hspace|begin|end)\*?\{.*?\}|\\arraycolsep.*?\}")
_APPEARANCE = re.compile(
    r"\\(?:mathbf|mathrm|mathnormal|mathit|mathbb|mathcal|mathscr|mathfrak|mathsf|mathtt|mathbfcal|textbf|text|"
    r"boldmath|boldsymbol|bm|symbfit|symbf|operatorname|scriptscriptstyle|displaystyle|notag|setlength|coloneqq|"
    r"space|thickspace|thinspace|medspace|nobreakspace|negmedspace|quad|qquad|enspace|substackw|left|right)"
)


def plain_text(text: str) -> str:
    """The letters and digits of a text block, inline formulas as the characters they show."""
    return letters(INLINE.sub(_shown_inline, text))


def letters(text: str) -> str:
    """Letters, digits and underscores of every script; nothing else."""
    return _NO_WORD.sub("", _WRITTEN_OUT.sub("", text))


def plain_formula(latex: str) -> str:
    """LaTeX of a display formula without delimiters, fonts, spacing, tags and environments, in lower case."""
    latex = latex.strip().strip("$").strip("\n")
    inside = _BRACKETED.search(latex)
    latex = _WITH_ARGUMENT.sub("", inside[1].strip() if inside else latex).strip(".")
    return _APPEARANCE.sub("", latex).replace(" ", "").replace("\n", "").replace("$$", "").lower()


def shown(latex: str) -> str:
    """LaTeX as the characters that it shows; as it is, where it cannot be read."""
    try:
        return str(_reader().latex_to_text(latex)).strip()
    except (ValueError, IndexError, RecursionError, AttributeError, TypeError):  # pylatexenc, on broken LaTeX
        return latex


def _shown_inline(match: re.Match[str]) -> str:
    """An inline formula as characters; "$" that only stand around an amount or a word stay."""
    latex = _ESCAPED.sub("", match[1] if match[1] is not None else match[2])
    return shown(latex + " ") if _MATHEMATICAL.search(latex) else match[0]


@lru_cache(maxsize=1)
def _reader() -> Any:
    module = extra("pylatexenc.latex2text", "comparing text with formulas, as OmniDocBench does,")
    logging.getLogger("pylatexenc").setLevel(logging.ERROR)  # broken LaTeX is common in what models write
    return module.LatexNodes2Text()
