"""How well a whole page was read into markdown: OmniDocBench's measures, block by block.

    text     edit distance of letters and digits, over matched blocks; page: Σ edits / Σ length of the longer
    formula  the same of display formulas' LaTeX. CDM, which the leaderboard uses in its place, renders both
             formulas with a LaTeX installation and is not computed here
    table    TEDS and TEDS-S (`tables.py`) and the edit distance of the tables' HTML; page: the tables' mean
    order    edit distance of the reading order of the text blocks (`order.py`)

Written from the description and the behaviour of the benchmark's code, version 1.5, with these of its rules: captions,
headers, footers and notes do not count, whether they were read or not; a display formula that was written as
text is compared as text; LaTeX tables score 0; text and tables made up beyond what a page holds cost nothing.
Ours differs from it where it goes astray: a paragraph cut in three is joined once (there its middle part is doubled),
a block whose normal form is empty does not shift its neighbours' categories, code stays code, and of the tables' HTML
only cells, spans and contents are compared.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import unescape
from itertools import chain

import numpy as np
from rapidfuzz.distance import Levenshtein

from train.evaluate.formats.page import Block
from train.evaluate.metrics.markdown import (
    FORMULA,
    HTML_TABLE,
    INLINE_FORMULA,
    LATEX_TABLE,
    TEXT,
    Piece,
    pieces,
)
from train.evaluate.metrics.matching import SURE, assignment, distances, match_blocks
from train.evaluate.metrics.order import reading_order
from train.evaluate.metrics.plain import letters, plain_formula, plain_text, shown
from train.evaluate.metrics.tables import table_text, teds
from train.evaluate.metrics.text import edit_distance

ISOLATED, TABLE = "equation_isolated", "table"
COUNTED = {"text_block", "title", "code_txt", "reference"}
PASSED_OVER = {
    "figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_txt_caption", "code_algorithm",
    "code_algorithm_caption", "header", "footer", "page_footnote", "page_number", "equation_caption",
}  # fmt: skip

_ARRAY = re.compile(r"\\begin\{array\}\{(?P<columns>[^}]*)\}(?P<body>.*?)\\end\{array\}", re.DOTALL)
_CELL = re.compile(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class DocumentScores:
    """Measures of one page; None where the page holds nothing of that kind. Edit distances: lower is better."""

    text_edit: float | None
    formula_edit: float | None
    table_edit: float | None
    table_teds: float | None
    table_teds_structure: float | None
    order_edit: float | None


@dataclass(frozen=True)
class _Part:
    """A block of either side: `plain` is its normal form, `place` where it stands."""

    category: str
    content: str
    plain: str
    place: float


def score_document(blocks: Sequence[Block], markdown: str) -> DocumentScores:
    """Compares the page's blocks with what a model wrote of it."""
    written = pieces(markdown)
    tables, loose = _tables([block.content for block in blocks if block.category == TABLE], written)
    true = [part for block in blocks for part in _true_parts(block)]
    parts = [part for piece in _in_order([*written, *loose]) for part in _written_parts(piece)]
    texts, formulas, places, missed = _match(true, parts)
    rows = list(zip(*tables, strict=True)) if tables else [None, None, None]
    edit, whole, structure = (float(np.mean(row)) if row is not None else None for row in rows)
    return DocumentScores(
        _ratio(texts), _ratio(formulas), edit, whole, structure,
        reading_order(places, missed) if places or missed else None,
    )  # fmt: skip


def overall_without_cdm(text_edit: float, table_teds: float) -> float:
    """Version 1.5's overall figure without its formula term: ((1 − text edit) · 100 + TEDS · 100) / 2, 0 to 100.

    Not comparable with leaderboards, whose figure is ((1 − text edit) · 100 + TEDS · 100 + CDM) / 3.
    """
    return ((1.0 - text_edit) * 100.0 + table_teds * 100.0) / 2.0


def overall_edit(text_edit: float, formula_edit: float, table_edit: float, order_edit: float) -> float:
    """Version 1.0's overall figure, a mean of four edit distances: what DeepSeek-OCR's paper tabulates, for each
    language apart.
    """
    return (text_edit + formula_edit + table_edit + order_edit) / 4.0


def _tables(
    true: Sequence[str], written: Sequence[Piece]
) -> tuple[list[tuple[float, float, float]], list[Piece]]:
    """(edit distance, TEDS, TEDS-S) of every true table, and the cells of tables that stand for none, as text.

    LaTeX tables are not translated: a page that holds more of them than of HTML ones has its tables score 0.
    """
    found = [piece for piece in written if piece.kind == HTML_TABLE]
    if sum(piece.kind == LATEX_TABLE for piece in written) > len(found):
        found = []
    if not true:
        return [], []
    forms = [table_text(table) for table in true], [table_text(piece.content) for piece in found]
    pairs = dict(assignment(distances(*forms)))
    scores = []
    for row, table in enumerate(true):
        other = found[pairs[row]].content if row in pairs else ""
        edit = edit_distance(forms[0][row], forms[1][pairs[row]]) if row in pairs else 1.0
        scores.append((edit, teds(table, other), teds(table, other, structure_only=True)))
    spare = [piece for column, piece in enumerate(found) if column not in pairs.values()]
    return scores, list(chain.from_iterable(map(_cells, spare)))


def _cells(table: Piece) -> list[Piece]:
    texts = (unescape(_TAG.sub("", cell)).strip() for cell in _CELL.findall(table.content))
    return [Piece(TEXT, text, table.position) for text in texts if text]


def _in_order(written: Sequence[Piece]) -> list[Piece]:
    """Without tables; inline formulas last, as their text stands for them too."""
    loose = [piece for piece in written if piece.kind not in (HTML_TABLE, LATEX_TABLE)]
    return sorted(loose, key=lambda piece: (piece.kind == INLINE_FORMULA, piece.position))


def _true_parts(block: Block) -> list[_Part]:
    if block.category == ISOLATED:
        return [
            _Part(ISOLATED, line, plain, block.order or 0.0)
            for line in _lines(block.content)
            if (plain := plain_formula(line))
        ]
    plain = plain_text(block.content) if block.category in COUNTED | PASSED_OVER else ""
    return [_Part(block.category, block.content, plain, block.order or 0.0)] if plain else []


def _written_parts(piece: Piece) -> list[_Part]:
    formula = piece.kind in (FORMULA, INLINE_FORMULA)
    contents = _lines(piece.content) if formula else [piece.content]
    parts = []
    for number, content in enumerate(contents):
        plain = plain_formula(content) if formula else plain_text(content)
        if plain:
            parts.append(_Part(piece.kind, content, plain, piece.position + number / len(contents)))
    return parts


def _lines(latex: str) -> list[str]:
    """A formula of several lines, in an array of one column, as its lines."""
    array = _ARRAY.search(latex)
    if array is None or re.sub(r"[@!]\{[^}]*\}|[\s|]", "", array["columns"]) not in ("l", "c", "r"):
        return [latex]
    return [line.strip() for line in array["body"].split(r"\\") if line.strip()]


Edits = list[tuple[int, int]]  # edits and length of the longer, a matched block each


def _match(true: Sequence[_Part], written: Sequence[_Part]) -> tuple[Edits, Edits, list[float], list[float]]:
    """Edits of texts and of formulas, and places of the text blocks: in the order they were written, and missed."""
    counted, left = _without_passed_over(true, written)
    texts: Edits = []
    formulas: Edits = []
    read: list[tuple[float, list[float]]] = []
    missed: list[float] = []
    for match in match_blocks([part.plain for part in counted], [part.plain for part in left]):
        owned, other = [counted[index] for index in match.true], [left[index] for index in match.written]
        if not owned:
            continue
        as_text = [replace(part, plain=letters(shown(part.content.strip().strip("$")))) for part in owned]
        formula = _most(owned) == ISOLATED
        if formula and all(part.category in (FORMULA, INLINE_FORMULA) for part in other[:1]):
            formulas.append(_edits(owned, other))
            continue
        texts.append(_edits(as_text if formula else owned, other))
        if not formula:
            places = [part.place for part in owned if part.place]
            read += [(other[0].place, places)] if other else []
            missed += [] if other else places
    order = list(chain.from_iterable(places for _, places in sorted(read, key=lambda pair: pair[0])))
    return texts, formulas, order, missed


def _without_passed_over(true: Sequence[_Part], written: Sequence[_Part]) -> tuple[list[_Part], list[_Part]]:
    """Both sides without captions, headers and the like, and without what was surely read of them."""
    passed = [part.plain for part in true if part.category in PASSED_OVER]
    near = distances(passed, [part.plain for part in written]) < SURE
    taken = set(np.flatnonzero(near.any(axis=0)).tolist())
    left = [part for number, part in enumerate(written) if number not in taken]
    return [part for part in true if part.category not in PASSED_OVER], left


def _most(parts: Sequence[_Part]) -> str:
    categories = [part.category for part in parts]
    return max(categories, key=categories.count)


def _edits(true: Sequence[_Part], written: Sequence[_Part]) -> tuple[int, int]:
    expected, read = ("".join(part.plain for part in side) for side in (true, written))
    return Levenshtein.distance(expected, read), max(len(expected), len(read))


def _ratio(edits: Edits) -> float | None:
    length = sum(longest for _, longest in edits)
    return sum(distance for distance, _ in edits) / length if length else None
