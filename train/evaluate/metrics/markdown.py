"""The parts of a page that a model wrote as markdown: tables, display formulas, code and text blocks.

Found in this order, each taken out of the text before the next is looked for, as OmniDocBench does: LaTeX tables,
HTML tables, display formulas, pipe tables (which become HTML), code; what remains is text, cut at empty lines,
or at every line where there are none. Inline formulas stay in their text and are listed besides, as some models
write every formula inline. Grounding markup, pictures and fences around a whole answer are dropped.
"""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TEXT, CODE, FORMULA, INLINE_FORMULA = "text", "code", "formula", "inline formula"
HTML_TABLE, LATEX_TABLE = "html table", "latex table"

_DROPPED = re.compile(
    r"<\|ref\|>.*?<\|/ref\|>|<\|det\|>.*?<\|/det\|>|!\[.*?\]\(.*?\)|</?(?:html|body|center)>", re.DOTALL
)
_FENCED_ANSWER = re.compile(r"\A\s*```(?:markdown|html|latex|md)\s*\n(.*?)\n?(?:```\s*)?\Z", re.DOTALL)
_UNDERSCORES, _SPACES = re.compile("_{4,}"), re.compile(" {4,}")
_LATEX_TABLE = re.compile(r"\\begin\{table\*?\}.*?\\end\{table\*?\}", re.DOTALL)
_TABULAR = re.compile(r"\\(begin|end)\{tabular\*?\}")
_TABLE_TAG = re.compile(r"<(/?)table\b[^>]*>", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$(.*?)\$\$|\\\[(.*?)\\\]|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
_CODE = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_HEADING_COMMAND = re.compile(r"\\(?:title|text|section)\*?\s*\{\s*(.*?)\s*\}", re.DOTALL)
_DELIMITER_ROW = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)+\s*(?::?-+:?\s*)?\|?\s*")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Piece:
    """A part of a page as it was written, and where it begins in the text."""

    kind: str
    content: str
    position: int


class _Page:
    """The text, from which what was found is blanked out so that every position stays."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces: list[Piece] = []

    def take(self, start: int, end: int, kind: str, content: str) -> None:
        self.pieces.append(Piece(kind, content, start))
        self.text = self.text[:start] + " " * (end - start) + self.text[end:]


def pieces(markdown: str) -> list[Piece]:
    """The parts of a page in the order in which they stand."""
    page = _Page(_cleaned(markdown))
    for match in list(_LATEX_TABLE.finditer(page.text)):
        page.take(*match.span(), LATEX_TABLE, match[0])
    for start, end in _nested(page.text, _TABULAR, lambda match: match[1] == "begin"):
        page.take(start, end, LATEX_TABLE, page.text[start:end])
    for start, end in _nested(page.text, _TABLE_TAG, lambda match: not match[1]):
        page.take(start, end, HTML_TABLE, page.text[start:end])
    _take_formulas(page)
    for start, end in list(_pipe_tables(page.text)):
        page.take(start, end, HTML_TABLE, pipe_table_as_html(page.text[start:end]))
    for match in list(_CODE.finditer(page.text)):
        page.take(*match.span(), CODE, match[1].strip())
    page.pieces += _text_blocks(page.text)
    return sorted(page.pieces, key=lambda piece: piece.position)


def pipe_table_as_html(table: str) -> str:
    """A markdown table with its delimiter row as HTML; cells keep their text as it is."""
    head, _, *body = [line for line in table.splitlines() if line.strip()]
    return "<table>" + "".join(_html_row(line) for line in (head, *body)) + "</table>"


def _cleaned(markdown: str) -> str:
    fenced = _FENCED_ANSWER.match(markdown)
    text = _DROPPED.sub("", fenced[1] if fenced and "\n```" not in fenced[1] else markdown)
    return _SPACES.sub("    ", _UNDERSCORES.sub("____", text.replace("\r\n", "\n")))


def _nested(text: str, tag: re.Pattern[str], opens: Callable[[re.Match[str]], bool]) -> list[tuple[int, int]]:
    """Outermost spans between opening and closing tags; one that is never closed is passed over."""
    spans: list[tuple[int, int]] = []
    stack: list[int] = []
    for match in tag.finditer(text):
        if opens(match):
            stack.append(match.start())
        elif stack:
            start = stack.pop()
            spans = [span for span in spans if span[0] < start] + [(start, match.end())]
    return spans


def _take_formulas(page: _Page) -> None:
    for match in list(_FORMULA.finditer(page.text)):
        inside = next(group for group in match.groups() if group is not None)
        if not inside.strip():
            continue
        latex = f"\\[{' '.join(inside.splitlines())}\\]"
        if match[1] is not None or match[2] is not None:
            page.take(*match.span(), FORMULA, latex)
        else:
            page.pieces.append(Piece(INLINE_FORMULA, latex, match.start()))


def _pipe_tables(text: str) -> Iterator[tuple[int, int]]:
    """Spans of a row, a delimiter row, and all rows that follow."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    number = 0
    while number + 1 < len(lines):
        if "|" in lines[number] and "|" in lines[number + 1] and _DELIMITER_ROW.fullmatch(lines[number + 1]):
            end = number + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            yield starts[number], starts[end]
            number = end
        else:
            number += 1


def _html_row(line: str) -> str:
    cells = _CELL_BORDER.split(line.strip().removeprefix("|").removesuffix("|"))
    return "<tr>" + "".join(f"<td>{html.escape(cell.strip(), quote=False)}</td>" for cell in cells) + "</tr>"


def _text_blocks(text: str) -> Iterator[Piece]:
    text = _HEADING_COMMAND.sub(lambda match: match[1].ljust(len(match[0])), text)
    border = re.compile(r"\n\n+" if "\n\n" in text.strip() else r"\n")
    start = 0
    for end, following in [
        *((match.start(), match.end()) for match in border.finditer(text)),
        (len(text), 0),
    ]:
        lines = (line.strip() for line in text[start:end].split("\n"))
        content = "\n".join(line for line in lines if line)
        if content:
            alone = len(content) > 2 and content.startswith("$") and content.endswith("$")
            yield Piece(FORMULA if alone else TEXT, content, start)
        start = following
