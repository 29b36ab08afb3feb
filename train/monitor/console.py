"""One calm line on the console now and then: where a run is, what it reads, how fast, and how long is left."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console

from train.monitor.pace import Pace

KEPT = ("image_gain", "data_wait_share_worst", "memory/peak")
WAITS = 0.1  # share of a step that is worth a word



class ConsoleLine:
    """Says every `every` steps how a run of `total_steps` does, and whatever else is worth a line."""

    def __init__(self, name: str, total_steps: int, every: int, console: Console | None = None) -> None:
        self._name, self._total, self._every = name, total_steps, max(1, every)
        self._console = console or Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
        self._pace = Pace()
        self._kept: dict[str, float] = {}  # what is not measured in every step, as it was last

    def step(self, step: int, values: Mapping[str, Any]) -> None:
        """One step is done; `values` as in metrics.jsonl."""
        self._pace.step(values)
        self._kept |= {name: values[name] for name in KEPT if name in values}
        if step % self._every == 0 or step == self._total:
            self.say("  ·  ".join([f"{self._name}  step {step:>{len(str(self._total))}}/{self._total}", *self._parts(step, values)]))

    def evaluation(self, values: Mapping[str, Any]) -> None:
        """What was measured on held-out pages is told with the next step."""
        self._kept |= {name: values[name] for name in KEPT if name in values}

    def say(self, text: str) -> None:
        """A line of its own."""
        with suppress(OSError):  # a closed pipe or a full disk behind stdout is no reason to stop training
            self._console.print(text)

    def _parts(self, step: int, values: Mapping[str, Any]) -> Iterator[str]:
        if values.get("loss") is not None:
            yield f"loss {float(values['loss']):.3f}"
        if "image_gain" in self._kept:
            yield f"image gain {self._kept['image_gain']:.2f}"
        if values.get("level"):
            yield f"level {values['level']}"
        yield from self._pace.speed()
        if self._kept.get("data_wait_share_worst", 0.0) >= WAITS:
            yield f"{self._kept['data_wait_share_worst']:.0%} waiting for data"
        if "memory/peak" in self._kept:
            yield f"{self._kept['memory/peak']:.1f} GiB"
        seconds = self._pace.left(self._total - step)
        if step < self._total and seconds is not None:
            yield f"{duration(seconds)} left{clock_at(seconds)}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: "41 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock_at(seconds: float) -> str:
    """", until 14:05", with the day where it is another one; "" where that is less than an hour away."""
    if seconds < 3600:
        return ""
    now = datetime.now()
    end = now + timedelta(seconds=seconds)
    return f", until {end:%H:%M}" if end.date() == now.date() else f", until {end:%d %b %H:%M}"
