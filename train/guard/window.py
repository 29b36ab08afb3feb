"""How far a number stands out from those of the last steps."""

import math
from collections import deque
from collections.abc import Iterable


class Window:
    """The last `size` numbers, of which the first half tells nothing yet (OLMo's SkipStepOptimizer does the same)."""

    def __init__(self, size: int) -> None:
        self._values: deque[float] = deque(maxlen=size)
        self._least = max(2, size // 2)

    def deviations(self, value: float) -> float | None:
        """How many standard deviations `value` lies above the mean of those before it; None where there are too few of
        them, all of them are alike, or `value` is not finite."""
        count = len(self._values)
        if count < self._least or not math.isfinite(value):
            return None
        mean = math.fsum(self._values) / count
        deviation = math.sqrt(math.fsum((other - mean) ** 2 for other in self._values) / (count - 1))
        return (value - mean) / deviation if deviation > 0 else None

    def add(self, value: float) -> None:
        """The newest number; one that is not finite leaves no trace."""
        if math.isfinite(value):
            self._values.append(value)

    def clear(self) -> None:
        """Numbers that follow are of another kind."""
        self._values.clear()

    def state(self) -> list[float]:
        """For a checkpoint: exact in JSON."""
        return list(self._values)

    def restore(self, values: Iterable[float]) -> None:
        """The inverse of `state`; the newest, where the window is smaller now."""
        self._values.clear()
        self._values.extend(values)
