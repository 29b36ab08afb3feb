"""How long this rank itself computes in a step: megatron-core's schedules tell when a forward or backward begins and ends.

On synchronous training a slow rank shows as everyone else's waiting, so the time of a step names nobody. What the schedule
calls forward and backward is a rank's own work: messages between pipeline stages, the reduction of gradients (ZeRO-1) and the
update lie outside. What lies inside are the messages of tensor and expert parallelism, of ZeRO-2's backwards and of ZeRO-3.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch

from parallel.device import device
from parallel.layers import chunks_of

FORWARD, BACKWARD, SCHEDULE = "forward-compute", "backward-compute", "forward-backward"  # megatron-core's names


@dataclass(frozen=True)
class Computed:
    """Seconds since `begin`: of forwards, of backwards, and of the schedule that holds both and this rank's waiting."""

    forward: float
    backward: float
    schedule: float


class ComputeClock:
    """megatron-core's `timers` of a module's pieces, for the three times above; every other name costs a look-up.

    On a GPU the stream's time counts, by events: nothing is waited for until `read`.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        stopwatch = _EventStopwatch if device().type == "cuda" else _Stopwatch
        self._watches = {name: stopwatch() for name in (FORWARD, BACKWARD, SCHEDULE)}
        self._configs: list[Any] = [chunk.config for chunk in chunks_of(module)]
        for config in self._configs:
            config.timers = self

    def __call__(self, name: str, log_level: int = 0) -> "_Stopwatch | _Unused":
        """The stopwatch of this name, as schedules ask for it."""
        return self._watches.get(name, _UNUSED)

    def begin(self) -> None:
        """Forgets what was timed so far, such as an evaluation."""
        for watch in self._watches.values():
            watch.forget()

    def read(self) -> Computed:
        """Since `begin`. The step must be over: on a GPU its last event too."""
        return Computed(*(watch.seconds() for watch in self._watches.values()))

    def close(self) -> None:
        """Schedules are not timed any more."""
        for config in self._configs:
            config.timers = None


class _Stopwatch:
    def __init__(self) -> None:
        self._seconds = self._began = 0.0

    def start(self, barrier: bool = False) -> None:
        self._began = time.perf_counter()

    def stop(self, barrier: bool = False) -> None:
        self._seconds += time.perf_counter() - self._began

    def seconds(self) -> float:
        return self._seconds

    def forget(self) -> None:
        self._seconds = 0.0


class _EventStopwatch(_Stopwatch):
    def __init__(self) -> None:
        super().__init__()
        self._events: list[torch.cuda.Event] = []  # begin, end, begin, end, ...; used again in the next step
        self._used = 0

    def start(self, barrier: bool = False) -> None:
        self._record()

    def stop(self, barrier: bool = False) -> None:
        self._record()

    def seconds(self) -> float:
        pairs = zip(self._events[: self._used : 2], self._events[1 : self._used : 2], strict=True)
        return sum(begin.elapsed_time(end) for begin, end in pairs) / 1000

    def forget(self) -> None:
        self._used = 0

    def _record(self) -> None:
        if self._used == len(self._events):
            self._events.append(torch.cuda.Event(enable_timing=True))
        self._events[self._used].record()
        self._used += 1


class _Unused:
    def start(self, barrier: bool = False) -> None:
        pass

    def stop(self, barrier: bool = False) -> None:
        pass


_UNUSED = _Unused()
