"""Ids proposed ahead, so that the model checks several in one pass instead of making them one by one.

The text stays the model's own: `Row.accept` takes a proposed id only where the model chooses the same.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from train.generate.decoder import TextDecoder
from train.generate.sampling import Row

MOST = 8  # ids proposed at once, at most


class Proposer(Protocol):
    """Where proposals come from. Rows are told apart by their number, `keep` leaves some of them."""

    def propose(self, rows: Sequence[Row]) -> list[list[int]]:
        """For each row at most as many ids as it may still have, less one; [] where nothing is proposed."""

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows from now on, in ascending order."""


class Nothing:
    """No proposals."""

    def propose(self, rows: Sequence[Row]) -> list[list[int]]:
        """See `Proposer`."""
        return [[] for _ in rows]

    def keep(self, rows: Sequence[int]) -> None:
        """See `Proposer`."""


class Trust:
    """How many ids to propose to a row: twice as many after all were right, half as many after none was."""

    def __init__(self) -> None:
        self.width = MOST // 2
        self.proposed, self.before = 0, 0

    def settle(self, row: Row) -> int:
        """Judges the last proposals by what was written since; how many may be proposed now."""
        right = len(row.written) - self.before - 1
        if self.proposed and right >= self.proposed:
            self.width = min(MOST, 2 * self.width)
        elif self.proposed and right == 0:
            self.width = max(1, self.width // 2)
        return 0 if row.ended else min(self.width, row.limit - len(row.written) - 1)

    def note(self, row: Row, proposed: int) -> None:
        """Remembers what was proposed."""
        self.proposed, self.before = proposed, len(row.written)


class Lookup:
    """Proposes what followed the last ids where they stood before, in the prompt or the text: free, and often right in
    tables, lists and forms.
    """

    SIZES = (3, 2)  # ids that must agree; the longer are tried first

    def __init__(self, rows: Sequence[Row]) -> None:
        self.trusts = [Trust() for _ in rows]
        self.tables: list[dict[tuple[int, ...], int]] = [{} for _ in rows]
        self.seen = [0] * len(rows)  # ids of each row that are in its table

    def propose(self, rows: Sequence[Row]) -> list[list[int]]:
        """See `Proposer`."""
        return [self._of(number, row) for number, row in enumerate(rows)]

    def keep(self, rows: Sequence[int]) -> None:
        """See `Proposer`."""
        self.trusts = [self.trusts[row] for row in rows]
        self.tables = [self.tables[row] for row in rows]
        self.seen = [self.seen[row] for row in rows]

    def _of(self, number: int, row: Row) -> list[int]:
        ids, table, trust = row.prompt + row.written, self.tables[number], self.trusts[number]
        for end in range(max(1, self.seen[number]), len(ids)):  # where something follows
            for size in self.SIZES:
                if end >= size:
                    table[tuple(ids[end - size : end])] = end
        self.seen[number] = len(ids)
        count = trust.settle(row)
        starts = (table.get(tuple(ids[-size:])) for size in self.SIZES)
        start = next((found for found in starts if found is not None), None)
        if start is None or count < 1:
            trust.note(row, 0)
            return []
        for place in range(start, start + count):
            ids.append(ids[place])  # beyond the end it goes on with what is proposed: a loop goes round
        trust.note(row, count)
        return ids[-count:]


class Draft:
    """Proposes what a smaller model would write, which reads the same pages and has a cache of its own."""

    def __init__(
        self, decoder: TextDecoder, embedded_LBD: Tensor, lengths: Sequence[int], kept_as: str
    ) -> None:
        self.decoder, self.starts = decoder, list(lengths)
        self.cache = decoder.cache(len(lengths), kept_as)
        decoder.prefill(embedded_LBD, lengths, self.cache)
        self.read: list[list[int]] = [[] for _ in lengths]  # ids after the prompt that the cache holds
        self.trusts = [Trust() for _ in lengths]

    def propose(self, rows: Sequence[Row]) -> list[list[int]]:
        """See `Proposer`."""
        counts = [trust.settle(row) for trust, row in zip(self.trusts, rows, strict=True)]
        proposed: list[list[int]] = [[] for _ in rows]
        fed = self._unread(rows)
        for number in range(max(counts)):
            likeliest = self._likeliest(fed, rows[0].vocabulary)
            for ids, count, token in zip(proposed, counts, likeliest, strict=True):
                if number < count:
                    ids.append(token)
            fed = [[token] for token in likeliest]
        for trust, row, ids in zip(self.trusts, rows, proposed, strict=True):
            trust.note(row, len(ids))
        return proposed

    def keep(self, rows: Sequence[int]) -> None:
        """See `Proposer`."""
        self.cache.keep(rows)
        self.starts, self.read = [self.starts[row] for row in rows], [self.read[row] for row in rows]
        self.trusts = [self.trusts[row] for row in rows]

    def _unread(self, rows: Sequence[Row]) -> list[list[int]]:
        """Takes back what was proposed in vain; of each row the ids that the draft has not read yet, at least one."""
        for row, ids in zip(rows, self.read, strict=True):
            agreed = next(
                (place for place, pair in enumerate(zip(ids, row.written)) if pair[0] != pair[1]), len(ids)
            )
            del ids[min(agreed, len(row.written) - 1) :]
        self.cache.truncate([start + len(ids) for start, ids in zip(self.starts, self.read, strict=True)])
        return [row.written[len(ids) :] for row, ids in zip(rows, self.read, strict=True)]

    def _likeliest(self, fed: list[list[int]], vocabulary: int) -> list[int]:
        """The draft's next id of each row, after it has read `fed`."""
        logits = self.decoder.step(filled(fed, self.decoder.embedding.device), self.cache)
        for ids, new in zip(self.read, fed, strict=True):
            ids += new
        self.cache.truncate([start + len(ids) for start, ids in zip(self.starts, self.read, strict=True)])
        best_BQ = logits[..., :vocabulary].argmax(-1).tolist()
        return [best[len(new) - 1] for best, new in zip(best_BQ, fed, strict=True)]


def filled(ids: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Rows of ids, the shorter ones filled up behind, int64 [B, longest]."""
    width = max(map(len, ids))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=device)
