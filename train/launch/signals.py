"""A request to stop, noticed between two steps: by a cluster, or by Ctrl-C.

Slurm announces the end of a job's time by a signal, often while a rank is still importing torch. The handlers
are therefore installed first of all, by the command itself, and only raise a flag; the training loop looks at
it after each step, saves, and ends.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

from parallel.topology import environment

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
ONE_PRESS = 1.0  # seconds in which a terminal, and a launcher that passes it on, deliver the same Ctrl-C again


class StopFlag:
    """Raised by SIGTERM, SIGUSR1, or Ctrl-C. A second signal, in the middle of the last checkpoint, changes nothing:
    the save is atomic. A second Ctrl-C is told so; a third ends the process at once.

    Use as a context manager: the handlers that were there before come back at its end. Outside `working` there is
    nothing to save, and Ctrl-C raises KeyboardInterrupt as ever.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None  # the first one that came
        self._before: dict[signal.Signals, Any] = {}
        self._came = 0.0  # when it came, by the monotonic clock
        self._working, self._presses, self._pressed = False, 0, 0.0

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside, somebody looks at the flag and saves."""
        self._working = True
        try:
            yield
        finally:
            self._working = False

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self.signal is not None

    @property
    def age(self) -> float:
        """Seconds since the first signal came to any process, as far as this one knows; 0 where none did."""
        return time.monotonic() - self._came if self.signal else 0.0

    def requested_anywhere(self) -> bool:
        """Whether any process was asked to stop: the same answer on all of them. A collective call, two
        numbers.

        Slurm may signal one rank earlier than another; ranks that stopped at different steps would wait for
        each other for ever.
        """
        import torch
        import torch.distributed as dist

        if not dist.is_initialized() or dist.get_world_size() == 1:
            return self.requested
        from parallel.device import device

        flag = torch.tensor([float(self.signal or 0), self.age], device=device())
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        number, age = flag.tolist()
        if number:
            self.signal, self._came = self.signal or signal.Signals(int(number)), time.monotonic() - age
        return self.requested

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and not self._working:
            raise KeyboardInterrupt
        first, name = self.signal is None, signal.Signals(number)
        if first:
            self.signal, self._came = name, time.monotonic()
        if number == signal.SIGINT:
            self._press()
        elif first:
            _say(f"{name.name}: stops after this step, and saves")

    def _press(self) -> None:
        """Counts a Ctrl-C, and tells what becomes of it."""
        now = time.monotonic()
        if self._presses and now - self._pressed < ONE_PRESS:
            return
        self._presses, self._pressed = self._presses + 1, now
        if self._presses == 1:
            _say("Ctrl-C: stops after this step, and saves")
        elif self._presses == 2:
            _say("Ctrl-C again: it is still finishing the step or saving. Once more ends it at once, without this checkpoint")
        else:
            _say("Ctrl-C a third time: ended. The checkpoints before this one are whole")
            os._exit(128 + signal.SIGINT)


def _say(text: str) -> None:
    """A line from rank 0. Not print: a handler may interrupt one."""
    if environment()[0] == 0:
        with suppress(OSError):  # a closed pipe or a full disk behind stderr
            os.write(2, f"\n{text}\n".encode())
