"""Pieces of HTML that several parts of the report are made of."""

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, text: str, body: str, raw: bool = False) -> str:
    """A headed part of the page; `text` is its first paragraph, HTML already if `raw`. `body` is HTML."""
    lead = f"<p>{text if raw else escape(text)}</p>" if text else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{body}</section>"


def table(titles: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts that scrolls by itself on narrow screens; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
