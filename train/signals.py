"""A cluster's request to stop, noticed between two steps.

Slurm announces the end of a job's time by a signal, often while a rank is still importing torch. The handlers
are therefore installed first of all, by the command itself, and only raise a flag; the training loop looks at
it after each step, saves, and ends.
"""

import signal
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """Raised by SIGTERM or SIGUSR1. A second signal, in the middle of the last checkpoint, changes nothing:
    the save is atomic.

    Use as a context manager: the handlers that were there before come back at its end.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None  # the first one that came
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self.signal is not None

    def requested_anywhere(self) -> bool:
        """Whether any process was asked to stop: the same answer on all of them. A collective call, one
        number.

        Slurm may signal one rank earlier than another; ranks that stopped at different steps would wait for
        each other for ever.
        """
        import torch
        import torch.distributed as dist

        if not dist.is_initialized() or dist.get_world_size() == 1:
            return self.requested
        from parallel.device import device

        flag = torch.tensor(float(self.requested), device=device())
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
