"""What is found in a page of markdown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluate.metrics.markdown import pieces, pipe_table_as_html

HTML = "<table><tr><td>1</td></tr></table>"


def found(markdown: str) -> list[tuple[str, str]]:
    return [(piece.kind, piece.content) for piece in pieces(markdown)]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("", []),
        ("One.\n\nTwo,\nstill two.\n\n\nThree.", ["One.", "Two,\nstill two.", "Three."]),
        ("One.\nTwo.\nThree.", ["One.", "Two.", "Three."]),  # no empty line anywhere: every line is a block
        ("# Head\n\n![a chart](chart.png)\n\nText", ["# Head", "Text"]),
        ("```markdown\nOne.\n\nTwo.\n```", ["One.", "Two."]),
        ("```markdown\nOne.\n\nTwo.", ["One.", "Two."]),  # cut short
        ("<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\nA head\n\nText", ["A head", "Text"]),
        ("<center>Figure 1</center>\n\n\\section{Methods}\n\nx", ["Figure 1", "Methods", "x"]),
        ("Name ______________ and       date", ["Name ____ and    date"]),
        ("Line\r\n\r\nNext", ["Line", "Next"]),
    ],
)
def test_text_blocks(markdown: str, expected: list[str]) -> None:
    assert found(markdown) == [("text", text) for text in expected]


def test_every_kind_in_the_order_of_the_page() -> None:
    markdown = "\n\n".join(
        [
            "Before $a_1$ it.", "$$\nx = y\n$$", HTML, "\\[ a\nb \\]", "```python\nprint(1)\n\nprint(2)\n```",
            "| a | b |\n|---|:-:|\n| 1 | 2 < 3 |", r"\begin{tabular}{l}1\end{tabular}", "After.",
        ]
    )  # fmt: skip
    assert found(markdown) == [
        ("text", "Before $a_1$ it."),
        ("inline formula", "\\[a_1\\]"),
        ("formula", "\\[ x = y\\]"),
        ("html table", HTML),
        ("formula", "\\[ a b \\]"),
        ("code", "print(1)\n\nprint(2)"),
        ("html table", "<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>2 &lt; 3</td></tr></table>"),
        ("latex table", r"\begin{tabular}{l}1\end{tabular}"),
        ("text", "After."),
    ]


def test_positions_are_places_in_the_text() -> None:
    markdown = f"One.\n\n{HTML}\n\nTwo."
    assert [piece.position for piece in pieces(markdown)] == [0, 6, 6 + len(HTML) + 2]


def test_tables_inside_tables_are_one_and_unclosed_ones_are_text() -> None:
    nested = f"<table><tr><td>{HTML}</td></tr></table>"
    assert found(f"{nested}\n\nText") == [("html table", nested), ("text", "Text")]
    assert found("Text\n\n<table><tr><td>1") == [("text", "Text"), ("text", "<table><tr><td>1")]
    assert found(f"<table><tr>{HTML}") == [("text", "<table><tr>"), ("html table", HTML)]


def test_a_paragraph_that_is_all_formula_is_a_formula() -> None:
    assert [kind for kind, _ in found("Text\n\n$E = mc^2$")] == ["text", "inline formula", "formula"]


def test_a_line_with_bars_is_no_table_without_a_delimiter_row() -> None:
    assert found("a | b\nc | d") == [("text", "a | b"), ("text", "c | d")]


@pytest.mark.parametrize(
    ("table", "cells"),
    [
        ("a | b\n--|--\n1 | 2", [["a", "b"], ["1", "2"]]),
        ("| a |\n|---|", [["a"]]),
        ("| a \\| b | c |\n|---|---|\n| 1 |  |", [["a \\| b", "c"], ["1", ""]]),
    ],
)
def test_pipe_tables(table: str, cells: list[list[str]]) -> None:
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    assert pipe_table_as_html(table) == f"<table>{rows}</table>"


@settings(deadline=None)
@given(st.text("ab$\\[]()|-\n`<table>/ {}", max_size=120))
def test_no_text_is_too_broken_and_every_letter_of_plain_text_stays(text: str) -> None:
    parts = pieces(text)
    assert [part.position for part in parts] == sorted(part.position for part in parts)
    if not set(text) & set("$\\[]|`<{"):
        assert "".join("".join(part.content.split()) for part in parts) == "".join(text.split())
