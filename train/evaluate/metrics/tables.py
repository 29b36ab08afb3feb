"""How well a table was read: TEDS, the similarity of two HTML tables as trees (Zhong et al., arXiv 1911.10683).

    TEDS = 1 − tree edit distance / nodes of the larger table

A node deleted or inserted costs 1. A node renamed costs 1 where tag, colspan or rowspan differ; two cells with
the same spans cost the normalised edit distance of their contents, of which a tag inside the cell is one sign
and every character another. TEDS-S looks at the structure alone: contents cost nothing.

Tables are compared as OmniDocBench prepares them: header cells are cells, `thead`, `tbody`, `tfoot` and markup
without a say in the content (`span`, `sup`, `sub`, `div`, `p`) are taken away, `math` becomes its LaTeX, text
is NFKC with single spaces. HTML is read by libxml2, which closes what a page cut short left open.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from train.evaluate.metrics.extra import extra
from train.evaluate.metrics.text import edit_distance
from train.evaluate.metrics.trees import Tree, tree_distance

_UNWRAPPED = ("thead", "tbody", "tfoot", "span", "sup", "sub", "div", "p")
_FRAME = '<html><body><table border="1" >{}</table></body></html>'
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Node:
    """An element of a table; `content` is a cell's, as signs."""

    tag: str
    spans: tuple[int, int] = (1, 1)  # columns, rows
    content: tuple[str, ...] = ()


def teds(reference: str, hypothesis: str, *, structure_only: bool = False) -> float:
    """Similarity of two tables in HTML, in [0, 1]; the first table of each text counts. Trees further apart than the
    larger has nodes score 0.

    1.0 when both hold no table, 0.0 when one of them holds none. Symmetric.
    """
    pair = [table_tree(text) for text in (reference, hypothesis)]
    if pair[0] is None or pair[1] is None:
        return 1.0 if pair[0] is pair[1] else 0.0
    (first, first_size), (second, second_size) = pair[0], pair[1]
    if max(first_size, second_size) == 0:
        return 1.0
    cost = _structure_cost if structure_only else _cost
    return max(0.0, 1.0 - tree_distance(first, second, cost) / max(first_size, second_size))


def table_tree(text: str) -> tuple[Tree[Node], int] | None:
    """The first table in `text` as a tree, and how many elements stand in it (the markup inside cells counts,
    the table itself does not); None where there is no table.
    """
    table = parse_table(text)
    if table is None:
        return None
    return _tree(table), sum(1 for element in table.iterdescendants() if isinstance(element.tag, str))


def parse_table(text: str) -> Any | None:
    """The first table in `text` as a prepared lxml element, or None."""
    if "<table" not in text.lower():
        return None
    html = extra("lxml.html", "comparing tables (TEDS)")
    document = html.fromstring(
        f"<html><body>{text}</body></html>", parser=html.HTMLParser(remove_comments=True)
    )
    table = next(document.iter("table"), None)
    if table is None:
        return None
    _prepare(table)
    table.tail = None
    return table


def table_text(text: str) -> str:
    """The first table of `text` in a normal form (cells, spans, contents), in the frame that OmniDocBench puts around
    it: what the edit distance of two tables is taken of. Empty where there is no table.
    """
    table = parse_table(text)
    if table is None:
        return ""
    return _FRAME.format("".join(_written(child) for child in table))


def _prepare(table: Any) -> None:
    """OmniDocBench's normal form, in place."""
    etree = extra("lxml.etree", "comparing tables (TEDS)")
    for element in list(table.iter("math")):
        element.text = f"${element.get('alttext', '')}$"
        for child in list(element):
            element.remove(child)
    etree.strip_elements(table, "colgroup", with_tail=False)
    etree.strip_tags(table, *_UNWRAPPED, "math")
    for element in table.iter():
        if element.tag == "th":
            element.tag = "td"
        element.text, element.tail = _plain(element.text), _plain(element.tail)


def _plain(text: str | None) -> str:
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", (text or "").replace("\n", "")))


def _tree(element: Any) -> Tree[Node]:
    if element.tag == "td":
        return Tree(Node("td", _spans(element), tuple(_signs(element))))
    return Tree(Node(element.tag), [_tree(child) for child in element])


def _spans(cell: Any) -> tuple[int, int]:
    """Columns and rows that a cell takes; what is no number counts as 1, as in browsers."""
    found = (re.match(r"\s*(\d+)", cell.get(name, "1")) for name in ("colspan", "rowspan"))
    columns, rows = (int(match[1]) if match else 1 for match in found)
    return columns, rows


def _signs(element: Any) -> list[str]:
    """What stands inside an element: characters, and each tag as one sign."""
    signs = list(element.text)
    for child in element:
        signs += [f"<{child.tag}>", *_signs(child), f"</{child.tag}>", *child.tail]
    return signs


def _written(element: Any) -> str:
    columns, rows = _spans(element) if element.tag == "td" else (1, 1)
    spans = (f' rowspan="{rows}"' if rows > 1 else "") + (f' colspan="{columns}"' if columns > 1 else "")
    inside = (
        "".join(_signs(element)) if element.tag == "td" else "".join(_written(child) for child in element)
    )
    return f"<{element.tag}{spans}>{inside}</{element.tag}>"


def _cost(one: Node, other: Node) -> float:
    return _structure_cost(one, other) or edit_distance(one.content, other.content)


def _structure_cost(one: Node, other: Node) -> float:
    return float(one.tag != other.tag or one.spans != other.spans)
