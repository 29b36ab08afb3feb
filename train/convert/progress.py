"""Progress of files that others write."""

import sys
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from tqdm import tqdm

INTERVAL = 0.2  # seconds


def bar(total: int, what: str) -> "tqdm[None]":
    """A bar over bytes; nothing where stderr is no terminal."""
    return tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not sys.stderr.isatty())


class Growth:
    """A context in which a bar shows how many bytes the files below a folder have come to."""

    def __init__(self, folder: Path, total: int, what: str) -> None:
        self.folder, self.bar, self._end = folder, bar(total, what), Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Growth":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if kind is None:
            self._show()
        self.bar.close()

    def _watch(self) -> None:
        while not self._end.wait(INTERVAL):
            self._show()

    def _show(self) -> None:
        written = 0
        for file in self.folder.rglob("*"):
            try:
                written += file.stat().st_size if file.is_file() else 0
            except OSError:
                continue  # renamed meanwhile
        self.bar.update(min(written, self.bar.total) - self.bar.n)
