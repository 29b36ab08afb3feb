"""One calm line on the console now and then: where a run is, what it reads, how fast, and how long is left."""

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console


class ConsoleLine:
    """Says every `every` steps how a run of `total_steps` does, and whatever else is worth a line."""

    def __init__(self, name: str, total_steps: int, every: int, console: Console | None = None) -> None:
        self._name, self._total, self._every = name, total_steps, max(1, every)
        self._console = console or Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
        self._image_gain: float | None = None
        self._pages: deque[tuple[float, float, int]] = deque(maxlen=64)  # (clock, pages so far, step)

    def step(self, step: int, values: Mapping[str, Any]) -> None:
        """One step is done. `values["pages"]`, when given, counts pages since the stage began."""
        self._pages.append((time.monotonic(), float(values.get("pages", 0)), step))
        if step % self._every == 0 or step == self._total:
            self.say(self._line(step, values))

    def evaluation(self, values: Mapping[str, Any]) -> None:
        """What was measured on held-out pages is told with the next step."""
        self._image_gain = values.get("image_gain", self._image_gain)

    def say(self, text: str) -> None:
        """A line of its own."""
        with suppress(OSError):  # a closed pipe or a full disk behind stdout is no reason to stop training
            self._console.print(text)

    def _line(self, step: int, values: Mapping[str, Any]) -> str:
        width = len(str(self._total))
        parts = [f"{self._name}  step {step:>{width}}/{self._total}"]
        if values.get("loss") is not None:
            parts.append(f"loss {float(values['loss']):.3f}")
        if self._image_gain is not None:
            parts.append(f"image gain {self._image_gain:.2f}")
        if values.get("level") is not None:
            parts.append(f"level {values['level']}")
        (clock, pages, first), (now, pages_now, last) = self._pages[0], self._pages[-1]
        if last > first and now > clock:
            if pages_now > pages:
                parts.append(f"{(pages_now - pages) / (now - clock):.0f} pages/s")
            if step < self._total:
                parts.append(f"{duration((self._total - step) * (now - clock) / (last - first))} left")
        return "  ·  ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as a person says them: "41 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
