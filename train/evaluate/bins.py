"""Pages by how much they say: the bins of text tokens that the compression curve is drawn over."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from data_pipeline.errors import UserError
from train.evaluate.measure import Measured, row_of

MOST_BINS = 6
PAGES_A_BIN = 16  # at least, where the data choose: fewer make an interval that says nothing


def edges_by_quantiles(counts: Sequence[int]) -> list[int]:
    """Edges between which about equally many pages lie; the last one is above the longest text.

    They are rounded to the coarsest step (1, 2, 5, 10, 20, …) that keeps all apart.
    """
    ordered = sorted(counts)
    wanted = max(1, min(MOST_BINS, len(ordered) // PAGES_A_BIN))
    low, high = ordered[0], ordered[-1] + 1
    inner = {ordered[len(ordered) * index // wanted] for index in range(1, wanted)}
    exact = sorted({low, high, *(edge for edge in inner if low < edge < high)})
    steps = [factor * 10**power for power in range(6, -1, -1) for factor in (5, 2, 1)]
    for step in steps:
        rounded = [
            low // step * step,
            *(round(edge / step) * step for edge in exact[1:-1]),
            -(-high // step) * step,
        ]
        small = step * 4 <= min(after - before for before, after in pairwise(exact))
        if small and all(after > before for before, after in pairwise(rounded)):
            return rounded
    return exact


def check_bins(counts: Sequence[int], edges: Sequence[int]) -> None:
    """Raises UserError where no page lies in any bin. counts: text tokens of the pages."""
    if not any(edges[0] <= count < edges[-1] for count in counts):
        raise UserError(
            f"bins={list(edges)}: none of the {len(counts)} pages lies in any; they hold {min(counts)} to {max(counts)} text "
            f"tokens, so try bins={edges_by_quantiles(counts)}"
        )


def binned(pages: Sequence[Measured], edges: Sequence[int], seed: int) -> list[dict[str, Any]]:
    """A row for each mode and bin [low, high) that has pages."""
    rows = []
    for mode in dict.fromkeys(page.mode for page in pages):
        for low, high in pairwise(edges):
            inside = [page for page in pages if page.mode == mode and low <= page.text_tokens < high]
            if inside:
                rows.append({"mode": mode, "low": low, "high": high} | row_of(inside, seed))
    return rows


def outside(pages: Sequence[Measured], edges: Sequence[int]) -> int:
    """How many pages lie in no bin."""
    mode = pages[0].mode
    return sum(not edges[0] <= page.text_tokens < edges[-1] for page in pages if page.mode == mode)
