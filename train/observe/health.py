"""How much of a run's time becomes training, and what it may lose: restarts, checkpoints, samples that cannot be read."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_pipeline.stream import Stream
from parallel.topology import Topology
from train.observe.history import History
from train.observe.observer import Look
from train.observe.ranks import Row
from train.saver import Saver


class Health:
    """`goodput` and its neighbours of train/monitor/catalogue.py.

    counted: seconds of steps that the run has done so far, those of steps that were lost not.
    """

    def __init__(
        self,
        history: History,
        counted: Callable[[], float],
        stream: Stream,
        saver: Saver,
        topology: Topology,
    ) -> None:
        self._history, self._counted, self._stream, self._saver = history, counted, stream, saver
        self._copies = topology.tensor * topology.pipeline
        self._started = time.monotonic()
        self._bad_before: int | None = None

    def begin(self) -> None:
        """Takes note of what was counted before this process, on rank 0 alone."""
        if self._bad_before is None:
            self._bad_before = self._bad()

    def see(self, look: Look) -> None:
        """Nothing to do."""

    def values(self) -> list[float]:
        """Samples that this rank could not use, since this process began."""
        return [float(self._bad() - (self._bad_before or 0))]

    def judge(self, rows: Sequence[Row], step: int) -> Mapping[str, Any]:
        """Over the whole life of the run."""
        counted = self._counted()
        written = self._saver.engine.written
        found = {
            "goodput": counted / max(time.time() - self._history.began, counted),  # clocks of two machines may differ
            "restarts": self._history.starts - 1,
            "lost_steps": self._history.lost_steps,
            "checkpoint_age": time.monotonic() - (written.at if written else self._started),
            "bad_samples": (self._bad_before or 0) + round(sum(row[0] for row in rows) / self._copies),
            "epoch": max(self._stream.epochs().values()),
        }
        return found | ({"save_seconds": written.seconds, "save_blocked": self._saver.blocked} if written else {})

    def close(self) -> None:
        """Nothing to do."""

    def _bad(self) -> int:
        return sum(self._stream.cursor.bad.values())
