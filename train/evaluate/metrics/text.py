"""How close two texts are: pure functions of what stands on the page and what was read.

`precision` is the figure of the compression curve: 1 − normalised edit distance on characters, order- and
count-aware. It is deliberately not what the published Fox script prints under that name (a set overlap of
words, computed with the two sides swapped: `fox.py`): that one forgives every repetition and every lost word
order.

Characters are code points and words are what whitespace separates, compared as they are: no lower-casing, no
normalisation; in the measures of characters, spaces count.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

from rapidfuzz.distance import Levenshtein


def edit_distance(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> float:
    """Levenshtein distance over the length of the longer, in [0, 1]; 0.0 for two empty ones.

    Symmetric. For texts it counts characters, for lists their items.
    """
    longest = max(len(reference), len(hypothesis))
    if longest == 0:
        return 0.0
    return Levenshtein.distance(reference, hypothesis) / longest


def precision(reference: str, hypothesis: str) -> float:
    """1 − normalised edit distance of the characters, in [0, 1]; two empty texts agree fully (1.0)."""
    return 1.0 - edit_distance(reference, hypothesis)


def word_precision(reference: str, hypothesis: str) -> float:
    """Share of the predicted words (by whitespace) that the reference holds, each counted as often as it
    stands there.

    Nothing predicted is 0.0, unless there was nothing to read either (1.0).
    """
    expected, predicted = Counter(reference.split()), Counter(hypothesis.split())
    if not predicted:
        return 0.0 if expected else 1.0
    return (expected & predicted).total() / predicted.total()


def character_error_rate(reference: str, hypothesis: str) -> float:
    """Characters to insert, delete or change, over the reference's characters (CER): 0 or more.

    Above 1 where more was made up than there was to read. A reference without characters has no rate of its
    own: 0.0 when nothing was read either, else 1.0, lest one empty page outweigh all others in a mean.
    """
    return _error_rate(reference, hypothesis)


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Words to insert, delete or change, over the reference's words (WER), as `character_error_rate`.

    In scripts without spaces a line is one word: there only the character error rate says something.
    """
    return _error_rate(reference.split(), hypothesis.split())


def _error_rate(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> float:
    if not reference:
        return 1.0 if hypothesis else 0.0
    return Levenshtein.distance(reference, hypothesis) / len(reference)
