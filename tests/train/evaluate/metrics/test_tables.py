"""TEDS, against values by hand, and against apted on trees built by another parser."""

import random
from html.parser import HTMLParser
from typing import Any

import pytest
from apted import APTED, Config
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluate.metrics import edit_distance, teds
from train.evaluate.metrics.tables import table_text

SQUARE = (
    "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>"  # 2 rows + 4 cells: 6 nodes
)


@pytest.mark.parametrize(
    ("other", "whole", "structure"),
    [
        (SQUARE, 1.0, 1.0),
        (SQUARE.replace(">d<", ">x<"), 1 - 1 / 6, 1.0),
        (SQUARE.replace(">d<", ">do<"), 1 - 0.5 / 6, 1.0),
        (SQUARE.replace("<td>d</td>", ""), 1 - 1 / 6, 1 - 1 / 6),
        (SQUARE.replace("<tr><td>c</td><td>d</td></tr>", ""), 1 - 3 / 6, 1 - 3 / 6),
        (SQUARE.replace("<td>d</td>", '<td colspan="2">d</td>'), 1 - 1 / 6, 1 - 1 / 6),
        (SQUARE.replace("<td>d</td>", '<td rowspan="1">d</td>'), 1.0, 1.0),
        (SQUARE.replace("<td>d</td>", "<td><b>d</b></td>"), 1 - (2 / 3) / 7, 1.0),  # a sign each: <b> d </b>
        ("", 0.0, 0.0),
        ("no table here", 0.0, 0.0),
        ("<table></table>", 0.0, 0.0),
    ],
)
def test_known_pairs(other: str, whole: float, structure: float) -> None:
    assert teds(SQUARE, other) == pytest.approx(whole)
    assert teds(SQUARE, other, structure_only=True) == pytest.approx(structure)


@pytest.mark.parametrize(
    "same",
    [
        "<TABLE border=1 class='x'><TR><TD>a</TD><TD>b</TD></TR><TR><TD>c</TD><TD>d</TD></TR></TABLE>",
        "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>c</td><td>d</td></tr></tbody></table>",
        "<html><body><p>Before</p><table>\n <tr>\n  <td>a</td> <td>b</td>\n </tr><tr><td>c</td><td>d</td></tr></table> after",
        "<table><colgroup><col/></colgroup><tr><td><span>a</span></td><td><p>b</p></td></tr><tr><td>c</td><td>ｄ</td></tr></table>",
        "<table><!-- two rows --><tr><td>a<td>b<tr><td>c<td>d",  # cut short and without closing tags
    ],
)
def test_what_does_not_show_does_not_count(same: str) -> None:
    assert teds(SQUARE, same) == 1.0
    assert table_text(same) == table_text(SQUARE)


def test_entities_and_formulas_are_read() -> None:
    left = "<table><tr><td>a &lt; b &amp; c</td><td>$x^2$</td></tr></table>"
    right = '<table><tr><td>a < b & c</td><td><math alttext="x^2"><mi>x</mi></math></td></tr></table>'
    assert teds(left, right) == 1.0


def test_two_texts_without_tables_agree() -> None:
    assert teds("", "nothing") == 1.0


def test_spans_that_are_no_numbers_count_as_one() -> None:
    assert teds(SQUARE, SQUARE.replace("<td>d", '<td colspan="wide">d')) == 1.0


class Node:
    """A tree as apted wants it, with the cost model of the paper on plain strings."""

    def __init__(self, tag: str, spans: tuple[str, str]) -> None:
        self.tag, self.spans, self.text = tag, spans, ""
        self.children: list[Node] = []


class PlainParser(HTMLParser):
    """Builds a table's tree from well-formed HTML with the standard library's parser."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.stack = [Node("page", ("1", "1"))]
        self.count = -1  # the table itself does not count
        self.feed(source)
        self.table = self.stack[0].children[0]

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        given = dict(attrs)
        node = Node(tag, (given.get("colspan", "1"), given.get("rowspan", "1")))
        self.stack[-1].children.append(node)
        self.stack.append(node)
        self.count += 1

    def handle_endtag(self, tag: str) -> None:
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        self.stack[-1].text += data


class PaperCosts(Config):  # type: ignore[misc]
    def rename(self, node1: Node, node2: Node) -> float:
        if node1.tag != node2.tag or node1.spans != node2.spans:
            return 1.0
        return edit_distance(node1.text, node2.text) if node1.tag == "td" else 0.0


def random_table(generator: random.Random) -> str:
    rows = []
    for _ in range(generator.randrange(1, 6)):
        cells = []
        for _ in range(generator.randrange(1, 5)):
            span = generator.choice(["", "", "", ' colspan="2"', ' rowspan="3"'])
            cells.append(f"<td{span}>{''.join(generator.choices('abc1', k=generator.randrange(0, 5)))}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def test_scores_agree_with_apted_on_trees_of_another_parser() -> None:
    generator = random.Random(3)
    for _ in range(200):
        left, right = random_table(generator), random_table(generator)
        one, other = PlainParser(left), PlainParser(right)
        distance = APTED(one.table, other.table, PaperCosts()).compute_edit_distance()
        assert teds(left, right) == pytest.approx(max(0.0, 1 - distance / max(one.count, other.count)))


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_scores_are_symmetric_bounded_and_never_above_the_structure(generator: random.Random) -> None:
    left, right = random_table(generator), random_table(generator)
    score = teds(left, right)
    assert score == pytest.approx(teds(right, left))
    assert 0.0 <= score <= teds(left, right, structure_only=True) + 1e-12 <= 1.0 + 1e-9
    assert teds(left, left) == 1.0


@settings(deadline=None)
@given(st.text("<>tablerd/ \"='123\n", max_size=80))
def test_no_markup_is_too_broken(text: str) -> None:
    assert 0.0 <= teds(SQUARE, f"<table>{text}") <= 1.0
