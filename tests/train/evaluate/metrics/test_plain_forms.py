"""Normal forms of text and formulas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluate.metrics.plain import letters, plain_formula, plain_text, shown


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hello, world!", "Helloworld"),
        ("## A **bold** head", "Aboldhead"),
        ("明月，天涯。", "明月天涯"),
        ("costs $5 and $6", "costs5and6"),
        (r"if $x_{0}\leq\alpha^{2}$ then", "ifx_0α2then"),
        (r"if \(x_0 \leq α^2\) then", "ifx_0α2then"),
        (r"$\frac{a}{b}$", "ab"),
        ("one\\ttwo\\n", "onetwo"),
    ],
)
def test_text(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        ("$$\nE = m c^{2}\n$$", "e=mc^{2}"),
        (r"\[ E = mc^{2} \]", "e=mc^{2}"),
        (r"\mathbf{E} = \left( m \right) \tag{3.1}", "{e}=(m)"),
        (r"\begin{align} a & = b \\ c & = d \end{align}", r"a&=b\\c&=d"),
        (r"\quad x \, .", r"x\,"),
    ],
)
def test_formula(latex: str, plain: str) -> None:
    assert plain_formula(latex) == plain


@settings(deadline=None)
@given(st.text(max_size=60))
def test_letters_keep_letters_alone_and_once_is_enough(text: str) -> None:
    plain = letters(text)
    assert all(sign.isalnum() or sign == "_" or sign.isidentifier() or not sign.isascii() for sign in plain)
    assert letters(plain) == plain


@settings(deadline=None)
@given(st.text("\\{}$^_ab&% ", max_size=40))
def test_no_latex_is_too_broken(latex: str) -> None:
    assert isinstance(shown(latex), str)
    assert isinstance(plain_formula(latex), str)
    assert isinstance(plain_text(f"${latex}$"), str)
