"""Whether the blocks of a page were read in their order."""

from collections.abc import Sequence

from train.evaluate.metrics.text import edit_distance


def reading_order(places: Sequence[float], missed: Sequence[float] = ()) -> float:
    """Edit distance between the blocks as they were read and as they should be, in [0, 1]; 0.0 is right.

    `places` are the true places of the blocks that were found, in the order in which they were read; `missed`
    those of blocks that were not found, which count as left out. OmniDocBench's measure: Levenshtein over the
    lists of places, divided by the length of the longer.
    """
    return edit_distance(sorted([*places, *missed]), list(places))
