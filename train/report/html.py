"""Pieces of HTML that several parts of the report are made of."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

LOGO = (
    '<svg class="logo" viewBox="0 0 44 30" aria-hidden="true"><rect x="1" y="1" width="42" height="28" rx="3"/>'
    + "".join(
        f'<rect class="{"lit" if (row, column) == (1, 2) else "frame"}" x="{5 + 7 * column}" y="{9 + 6 * row}" width="5" height="4"/>'
        for row in range(3)
        for column in range(5)
    )
    + '<line x1="5" y1="5" x2="25" y2="5"/></svg>'
)


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page: no script, nothing fetched. `parts` are HTML; empty ones are left out."""
    style = resources.files("train.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)} · Microfiche</title><style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def header(kind: str, headline: str, lede: str) -> str:
    """The top of a page: what it is of, its sentence (the first one large), and a paragraph."""
    first, _, rest = headline.partition(". ")
    large = escape(first) + ("." if rest else "")
    small = f"<span>{escape(rest)}</span>" if rest else ""
    return (
        f'<header><p class="over">{LOGO}<b>Microfiche</b> <span>{escape(kind)}</span></p>'
        f'<h1>{large} {small}</h1><p class="lede">{escape(lede)}</p></header>'
    )


def tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """A row of figures: (value, name, explanation) each; nothing where there are none."""
    items = "".join(
        f"<li><strong>{escape(value)}</strong><b>{escape(name)}</b><span>{escape(text)}</span></li>"
        for value, name, text in entries
    )
    return f'<ul class="tiles">{items}</ul>' if items else ""


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{items}</dl>'


def guide(points: Iterable[tuple[str, str]]) -> str:
    """What a reader must know: (key words, sentence) each."""
    items = "".join(f"<li><b>{escape(title)}</b> {escape(text)}</li>" for title, text in points)
    return f'<ul class="guide">{items}</ul>'


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
