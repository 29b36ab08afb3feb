"""The table of docs/parallelism.md says what is tested, allowed and refused now."""

from tests.parallel.support_matrix import DOCUMENT, with_table


def test_the_documented_matrix_is_current() -> None:
    text = DOCUMENT.read_text()
    assert text == with_table(text), "write it anew: python -m tests.parallel.support_matrix"
