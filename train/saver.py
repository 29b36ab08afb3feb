"""Saves a run now and then: a save that fails costs a line and not the run, unless it is the last one."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parallel.base import Base
from parallel.engine import Engine
from parallel.errors import CheckpointError


class Saver:
    """Writes checkpoints below `root`, in the background if asked, and keeps the newest `keep`. All ranks call it."""

    def __init__(
        self,
        engine: Engine,
        root: Path,
        keep: int,
        background: bool,
        say: Callable[[str], object],
        base: Base | None = None,
        saved: Callable[[int], object] = lambda step: None,
    ) -> None:
        """base: the checkpoint whose weights are left out, as they did not change. saved: told of each step that is whole on
        disk, in the background at the latest when the next save begins.
        """
        self.engine, self.root, self.keep, self.background, self.say = engine, root, keep, background, say
        self.base = base
        self.blocked = 0.0  # seconds that the last save kept training waiting
        self._error: CheckpointError | None = None
        self._saved, self._writing = saved, 0  # the step that is being written

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Begins a save, after the one before it. A failure of either is told, and the older checkpoints stay."""
        started = time.monotonic()
        self._settle()
        try:
            self.engine.save(self.root, step, state, self.keep, self.background, self.base)
            self._error, self._writing = None, step
        except CheckpointError as error:
            self._failed(error)
        if not self.background:
            self._settle()
        self.blocked = time.monotonic() - started

    def finish(self) -> None:
        """Returns when everything is written. Raises CheckpointError where the last save failed."""
        self._settle()
        if self._error is not None:
            raise self._error

    def _settle(self) -> None:
        try:
            self.engine.wait()
            if self._writing:
                self._saved(self._writing)
        except CheckpointError as error:
            self._failed(error)
        self._writing = 0

    def _failed(self, error: CheckpointError) -> None:
        self._error = error
        self.say(f"no checkpoint: {error}")
