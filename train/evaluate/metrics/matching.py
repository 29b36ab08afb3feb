"""Which blocks a model wrote stand for which blocks of the page: OmniDocBench's quick match, from its description.

A model cuts a page into other blocks than the annotator. So, on normal forms of both:

    1. written blocks that follow each other are joined where together they are closer to one true block
    2. true and joined blocks are paired so that the edit distances add up to the least (Hungarian method);
       pairs further apart than 0.7 are undone
    3. a true block left over that stands, within 0.4, inside a written one is counted to that one
    4. what is left on both sides is paired by the least edit distance, whatever it is
    5. true blocks that remain were not read; written ones that remain cost nothing, as in the benchmark
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from train.evaluate.metrics.extra import extra
from train.evaluate.metrics.text import edit_distance

SURE = 0.25  # closer than this: no joining is tried
TOO_FAR = 0.7
INSIDE = 0.4
PART = 0.6


@dataclass(frozen=True)
class Match:
    """Indices of true blocks and of the written blocks that stand for them; either may be empty, not both."""

    true: tuple[int, ...]
    written: tuple[int, ...]


def match_blocks(true: Sequence[str], written: Sequence[str]) -> list[Match]:
    """Every true block is in one match, every written one in at most one. No text may be empty."""
    runs = _joined(true, written)
    texts = [_join(written, run) for run in runs]
    costs = distances(true, texts)
    found = {row: column for row, column in assignment(costs) if costs[row, column] <= TOO_FAR}
    owners: dict[int, list[int]] = {column: [row] for row, column in found.items()}
    for row in range(len(true)):
        if row not in found:
            inside = next(
                (column for column, text in enumerate(texts) if occurs(true[row], text, INSIDE)), None
            )
            if inside is not None:
                owners.setdefault(inside, []).append(row)
                found[row] = inside
    rows = [row for row in range(len(true)) if row not in found]
    columns = [column for column in range(len(texts)) if column not in owners]
    for row, column in assignment(costs[np.ix_(rows, columns)]):
        owners[columns[column]] = [rows[row]]
        found[rows[row]] = columns[column]
    matches = [Match(tuple(sorted(owned)), runs[column]) for column, owned in owners.items()]
    matches += [Match((row,), ()) for row in range(len(true)) if row not in found]
    return matches + [Match((), run) for column, run in enumerate(runs) if column not in owners]


def distances(true: Sequence[str], written: Sequence[str]) -> np.ndarray:
    """Normalised edit distances, float64 [true, written]."""
    if not true or not written:
        return np.zeros((len(true), len(written)))
    return process.cdist(true, written, scorer=Levenshtein.normalized_distance, dtype=np.float64)


def assignment(costs: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column) with the least sum of costs; as many as the shorter side has."""
    if 0 in costs.shape:
        return []
    rows, columns = extra("scipy.optimize", "matching blocks").linear_sum_assignment(costs)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]


def occurs(needle: str, text: str, limit: float) -> bool:
    """Whether some stretch of `text` as long as `needle` is closer to it than limit · its length."""
    span, start = len(needle), 0
    while start + span <= len(text):
        distance = Levenshtein.distance(needle, text[start : start + span])
        if distance < limit * span:
            return True
        start += max(1, int(distance - limit * span) // 2)  # a step to the side changes it by 2 at most
    return False


def _join(written: Sequence[str], run: Sequence[int]) -> str:
    return " ".join(written[index] for index in run)


def _joined(true: Sequence[str], written: Sequence[str]) -> list[tuple[int, ...]]:
    """The written blocks as runs, joined where that explains a true block better; all of them, in order."""
    costs = distances(true, written)
    sure = costs < SURE
    free = np.flatnonzero(~sure.any(axis=0)).tolist()
    wishes: list[tuple[float, tuple[int, ...]]] = []
    for row in range(len(true)):
        if sure[row].any():
            continue
        runs = [_run(true[row], written, start, free) for start in free]
        scored = [(edit_distance(true[row], _join(written, run)), run) for run in runs]
        if scored:
            wishes.append(min(scored))
    chosen: dict[int, tuple[int, ...]] = {}
    for _, run in sorted(wishes):
        if not any(index in chosen for index in run):
            chosen |= dict.fromkeys(run, run)
    return sorted({chosen.get(index, (index,)) for index in range(len(written))})


def _run(true: str, written: Sequence[str], start: int, free: Sequence[int]) -> tuple[int, ...]:
    """The blocks from `start` on that together come ever closer to `true`, each of them a part of it."""
    end, text = start + 1, written[start]
    if end >= len(written) or not occurs(text, true, PART):
        return (start,)
    while end in free and len(text) <= len(true):
        longer = f"{text} {written[end]}"
        if edit_distance(true, longer) > edit_distance(true, text) or not occurs(written[end], true, PART):
            break
        end, text = end + 1, longer
    return tuple(range(start, end))
