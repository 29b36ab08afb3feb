"""How fast a run is, and how long it will take: the steps of late, and what comes between steps since the start."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

RECENT = 64  # steps


class Pace:
    """Told of each step of a process; times by the monotonic clock.

    Evaluations and saves come now and then: counted as they come, the time left would jump with each. They are spread over the
    steps between them: what lay between steps, up to the last long pause, over the steps until then.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=RECENT)  # (seconds, pages, text tokens) of a step
        self._clock: float | None = None  # when the last step was told
        self._steps, self._between = 0, 0.0  # since the first one
        self._spread = 0.0  # seconds between two steps, on the average
        self._counts: tuple[float, float] | None = None

    def step(self, values: Mapping[str, Any]) -> None:
        """A step is done. values: "seconds" it took, "pages" and "tokens" since the stage began."""
        now = time.monotonic()
        counts = (float(values.get("pages", 0)), float(values.get("tokens", 0)))
        since = now - self._clock if self._clock is not None else None
        seconds = float(values.get("seconds", since or 0.0))
        if since is not None and self._counts is not None:  # the first step of a process chooses kernels, and fills caches
            pages, tokens = (after - before for after, before in zip(counts, self._counts))
            self._recent.append((seconds, pages, tokens))
            self._pause(max(0.0, since - seconds))
        self._clock, self._counts = now, counts

    def speed(self) -> Iterator[str]:
        """Pages a second over the last steps, or text tokens where there are no pages; nothing before there are two steps."""
        seconds, pages, tokens = map(sum, zip(*self._recent)) if self._recent else (0.0, 0.0, 0.0)
        if seconds and pages:
            yield f"{pages / seconds:.{0 if pages > 10 * seconds else 1}f} pages/s"
        elif seconds and tokens:
            yield f"{tokens / seconds:.0f} tokens/s"

    def left(self, steps: int) -> float | None:
        """Seconds that so many steps will take, with what comes between them; None before there are two."""
        if not self._recent:
            return None
        return steps * (fmean(seconds for seconds, _, _ in self._recent) + self._spread)

    def _pause(self, seconds: float) -> None:
        self._steps += 1
        self._between += seconds
        if seconds > self._spread:
            self._spread = self._between / self._steps
