"""A file of JSON lines that outlives a full disk: what cannot be written now is kept, and written when it can be."""

import atexit
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_open: "weakref.WeakSet[Lines]" = weakref.WeakSet()


def on_stderr(text: str) -> None:
    """A line for a person, who may have closed the pipe, or sent it to the disk that is full."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Lines:
    """Appends rows to a file, each at once and whole, and never raises OSError: nobody's training ends for want of a log.

    A failure is told once, by `say`, and so is its end. Several processes may append to one file. A file or folder that was
    removed meanwhile is made again, and goes on with the next row.
    """

    def __init__(self, path: Path, say: Callable[[str], object] = on_stderr) -> None:
        self.path, self._say = path, say
        self._descriptor: int | None = None
        self._waiting = bytearray()
        self._failing = False
        _open.add(self)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """A line for each row, after those that still wait."""
        self._waiting += "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        self._try()

    def close(self) -> None:
        """Closes the file; says how many lines are lost, if it still cannot be written."""
        self._try()
        if self._waiting:
            self._say(f"{self.path}: its last {self._waiting.count(10)} lines could not be written and are lost")
            self._waiting.clear()
        self._let_go()

    def sync(self) -> None:
        """Waits until everything is on the disk, where that is possible."""
        self._try()
        try:
            if self._descriptor is not None:
                os.fsync(self._descriptor)
        except OSError as error:
            self._fail(error)

    def _try(self) -> None:
        if not self._waiting:
            return
        try:
            self._write()
        except OSError as error:
            self._let_go()  # a descriptor may have gone bad with its file system: the next try opens anew
            self._fail(error)

    def _write(self) -> None:
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            self._let_go()
            self._say(f"{self.path} was removed while the run wrote it: it goes on in a new file, without what was in it")
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        while self._waiting:
            del self._waiting[: os.write(self._descriptor, self._waiting)]
        if self._failing:
            self._failing = False
            self._say(f"{self.path} is written again; no line is missing")

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._say(f"{self.path} cannot be written ({error.strerror}): its lines wait in memory until it can")

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def close_all() -> None:
    """What still waits is tried once more when the process ends."""
    for lines in list(_open):
        lines.close()


atexit.register(close_all)
