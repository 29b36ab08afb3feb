"""Whether a model ran in circles: the failure users of such models report most, and a mean precision hides.

A **run** is a stretch of text in which one unit of 1 to 1000 characters stands at least four times in a row,
letter for letter. What comes after its first copy is repeated text; a page **loops** when repeated text makes
up over a tenth of it, beyond what its reference repeats itself (dotted leaders, empty table cells, refrains).
Counting up ("1. 2. 3. …") and copies that differ a little are no runs and are not seen. The
repetition rate is the share of pages that loop.
"""

import numpy as np

LONGEST_UNIT = 1000  # characters
COPIES = 4
LEAST_REPEATED = 12  # characters of a run after its first copy: below, it is a dash line or an indentation
LOOPING_SHARE = 0.1


def repeated_share(text: str) -> float:
    """Share of the characters that only repeat what stands right before them, in [0, 1)."""
    if not text:
        return 0.0
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    repeated = np.zeros(len(codes), dtype=bool)
    for unit in range(1, min(LONGEST_UNIT, len(codes) // COPIES) + 1):
        same = np.zeros(len(codes) - unit + 2, dtype=np.int8)
        same[1:-1] = codes[unit:] == codes[:-unit]
        change = np.diff(same)
        begins, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
        long = ends - begins >= max((COPIES - 1) * unit, LEAST_REPEATED)
        for begin, end in zip(begins[long], ends[long], strict=True):
            repeated[begin + unit : end + unit] = True
    return float(repeated.mean())


def loops(hypothesis: str, reference: str = "") -> bool:
    """Whether the page's text runs in circles, other than its reference does."""
    return repeated_share(hypothesis) > repeated_share(reference) + LOOPING_SHARE
