"""Which rank keeps the others waiting: one that computes slowly, or one that waits for its data.

Ranks are compared with those that do the same work: the data-parallel copies of one pipeline stage. Ranks that exchange
activations within a layer (tensor, expert parallelism) wait for each other there, compute equally long, and are named
together. ZeRO-2's backwards and all of ZeRO-3 wait for the other copies: of the one the forwards are compared, of the other
nothing. A rank's wait for data is its own in every layout.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from statistics import fmean, median_low
from typing import Any

from parallel.clock import ComputeClock
from parallel.topology import Topology
from train.observe.observer import Look
from train.observe.ranks import Row

MOST, LEAST = 20, 4  # steps that are judged together, and below which nobody is named: a step may be slow by chance, and a gather
SLOW, SLOW_NO_MORE = 1.5, 1.2  # times the median at which a rank is named, and below which it may be named again
WAITS, WAITS_NO_MORE = 0.1, 0.05  # shares of a step


@dataclass(frozen=True)
class Times:
    """One rank's seconds over some steps: what it computed and is compared by, the schedule, in the schedule not
    computing, waiting for data, whole steps; and how many."""

    computed: float
    schedule: float
    idle: float
    waited: float
    seconds: float
    steps: float

    @classmethod
    def total(cls, rows: Sequence[Row]) -> "Times":
        """Of all `rows`."""
        return cls(*map(sum, zip(*rows)))


class Stragglers:
    """`straggler`: of the slowest over the median rank's computing; `data_wait_share`, `data_wait_share_worst`; and with
    a pipeline `bubble`. `say` gets a line for a rank that is found, once until it has recovered.

    nodes: the machine's name, by rank.
    """

    def __init__(
        self, clock: ComputeClock, topology: Topology, zero: int, nodes: Sequence[str], say: Callable[[str], object]
    ) -> None:
        self._clock, self._topology, self._zero, self._nodes, self._say = clock, topology, zero, nodes, say
        self._own = [0.0] * 6
        self._rows: deque[Sequence[Row]] = deque()  # of the last gathers
        self._suspected: set[str] = set()
        self._named: set[str] = set()

    def begin(self) -> None:
        """A step begins."""
        self._clock.begin()

    def see(self, look: Look) -> None:
        """Adds a step's seconds."""
        done = self._clock.read()
        compared = {1: done.forward + done.backward, 2: done.forward}.get(self._zero, 0.0)
        idle = max(0.0, done.schedule - done.forward - done.backward)
        seen = (compared, done.schedule, idle, look.waited, look.seconds, 1.0)
        self._own = [before + more for before, more in zip(self._own, seen)]

    def values(self) -> list[float]:
        """The sums since the last call."""
        own, self._own = self._own, [0.0] * 6
        return own

    def judge(self, rows: Sequence[Row], step: int) -> Mapping[str, Any]:
        """Over the last steps; names who stands out."""
        self._rows.append(rows)
        while sum(Times(*gather[0]).steps for gather in list(self._rows)[1:]) >= MOST:
            self._rows.popleft()
        times = [Times.total(of_rank) for of_rank in zip(*self._rows)]
        steps = round(times[0].steps)
        if not steps:
            return {}
        shares = [rank.waited / rank.seconds for rank in times]
        found = {"data_wait_share": fmean(shares), "data_wait_share_worst": max(shares)}
        factors = slowness([rank.computed for rank in times], self._topology)
        if factors:
            found["straggler"] = max(factors.values())
        if steps >= LEAST:
            self._name_waiting(shares)
            self._name_slow(factors, steps)
        if self._topology.pipeline > 1:
            found["bubble"] = fmean(rank.idle / rank.schedule for rank in times)
        return found

    def close(self) -> None:
        """Schedules are not timed any more."""
        self._clock.close()

    def _name_slow(self, factors: Mapping[tuple[int, ...], float], steps: int) -> None:
        for ranks, factor in factors.items():
            if self._news(f"slow {ranks}", factor, SLOW, SLOW_NO_MORE):
                self._say(f"{self._who(ranks)} {'computes' if len(ranks) == 1 else 'compute'} {factor:.1f} times as long as the median "
                          f"over the last {steps} steps; the others wait")  # fmt: skip

    def _name_waiting(self, shares: Sequence[float]) -> None:
        news = [self._news(f"waits {rank}", share, WAITS, WAITS_NO_MORE) for rank, share in enumerate(shares)]
        waiting = tuple(rank for rank, new in enumerate(news) if new)
        if not waiting:
            return
        everyone = len(waiting) == len(shares) > 1
        who = "every rank" if everyone else self._who(waiting)
        most = max(shares[rank] for rank in waiting)
        self._say(f"{who} {'waits' if everyone or len(waiting) == 1 else 'wait'} {'up to ' if len(waiting) > 1 else ''}{most:.0%} "
                  "of a step for data: its storage is slow, or reading needs more data.workers= or data.prefetch=")  # fmt: skip

    def _news(self, name: str, value: float, above: float, again: float) -> bool:
        """Whether `value` is above a threshold, was so at the last gather too, and nobody was told since it was below `again`."""
        if value < again:
            self._named.discard(name)
        before = name in self._suspected
        self._suspected = self._suspected | {name} if value >= above else self._suspected - {name}
        if value < above or not before or name in self._named:
            return False
        self._named.add(name)
        return True

    def _who(self, ranks: Sequence[int]) -> str:
        names = [f"{rank} ({self._nodes[rank]})" for rank in ranks[:4]]
        more = f" and {len(ranks) - 4} more" if len(ranks) > 4 else ""
        return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(names)}{more}"


def slowness(computed: Sequence[float], topology: Topology) -> dict[tuple[int, ...], float]:
    """Ranks that move together -> how many times as long as the median of their stage they compute; {} where no two can
    be compared."""
    together = lcm(topology.tensor, topology.expert)  # of a stage's ranks, which are tensor x data in a row
    of_stage = topology.tensor * topology.data
    if of_stage == together or not all(computed):
        return {}
    found: dict[tuple[int, ...], float] = {}
    for first in range(0, topology.world, of_stage):
        groups = [tuple(range(begin, begin + together)) for begin in range(first, first + of_stage, together)]
        seconds = [fmean(computed[rank] for rank in group) for group in groups]
        middle = median_low(seconds)
        found |= {group: own / middle for group, own in zip(groups, seconds)}
    return found
