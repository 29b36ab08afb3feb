"""Faults that tests put into the process of a rank before it becomes `python -m train`; the product knows none of them."""

import datetime
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

Fault = Callable[[], object]  # called in the process of a rank before it becomes `python -m train`


def before_step(actions: Mapping[int, Fault]) -> None:
    """Does something just before the update of these steps, counted from the start of the process."""
    from parallel.engine import Engine

    train_step, done = Engine.train_step, [0]

    def wrapped(self: Any, *args: Any) -> Any:
        done[0] += 1
        actions.get(done[0], _nothing)()
        return train_step(self, *args)

    Engine.train_step = wrapped  # type: ignore[method-assign]


def inside_save(moment: str, save: int, action: Fault) -> None:
    """Does something inside the process's save number `save` (1, 2, …), when it comes to `moment`, a name in MOMENTS."""
    from parallel import checkpoint, integrity, pieces

    owner, name, count = {
        "folder made": (pieces, "write", 1),
        "one tensor written": (pieces._SavePlanner, "resolve_data", 2),
        "files written": (integrity, "describe", 1),
        "checksums known": (integrity, "write_json", 1),
        "manifest written": (checkpoint, "_put_in_place", 1),
        "folder named": (integrity, "write_json", 2),
        "latest half replaced": (os, "replace", 1),
        "old folder unnamed": (shutil, "rmtree", 1),
    }[moment]
    begun = met = 0

    def begin() -> None:
        nonlocal begun
        begun += 1

    def come() -> None:
        nonlocal met
        if begun == save:
            met += 1
            if met == count:
                action()

    # folders are also removed when a save begins: what killed ones left
    _before(checkpoint, "_finish" if owner is shutil else "save", begin)
    _before(owner, name, come)


MOMENTS = (
    "folder made", "one tensor written", "files written", "checksums known", "manifest written", "folder named",
    "latest half replaced", "old folder unnamed",
)  # fmt: skip


def send(*numbers: signal.Signals) -> None:
    """Signals of the operating system to this process, one after the other."""
    for number in numbers:
        os.kill(os.getpid(), number)


def each(*faults: Fault) -> None:
    """Several faults in one process."""
    for fault in faults:
        fault()


def largest_file(size: int) -> None:
    """No file of this process may grow beyond `size` bytes: what a full disk is to somebody who is not root. -1: no limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def fill(folder: Path) -> None:
    """Fills the disk on which `folder` is to the last block."""
    with open(folder / "ballast", "ab") as file, suppress(OSError):  # none is left
        os.posix_fallocate(file.fileno(), file.tell(), shutil.disk_usage(folder).free)


def make_room(folder: Path) -> None:
    """Undoes `fill`."""
    (folder / "ballast").unlink()


def long_rows() -> None:
    """Rows of metrics.jsonl that need another block of the disk each: a full disk may have room in the last one."""
    from train.monitor import monitor

    plain = monitor.plain
    monitor.plain = lambda value: plain(value) | {"padding": "." * 5000}  # type: ignore[assignment]


def bad_sample_each_step() -> None:
    """Each step meets a sample that cannot be used, and that there is much to say about."""
    from data_pipeline.bad_samples import BadSample, BadSamples

    add = BadSamples.add

    def wrapped(self: BadSamples, bad: Any, seen: int) -> Any:
        number = 1 + len(self.__dict__.setdefault("met", []))
        self.__dict__["met"].append(number)
        self.max_bad_fraction = 0.5
        return add(self, [*bad, BadSample("ratio-4", "shard-00000.tar", f"page-{number}", "bad image", "." * 5000)], seen)

    BadSamples.add = wrapped  # type: ignore[method-assign]


def gather_each_step() -> None:
    """What ranks tell each other, they tell in every step: a test's run has fewer steps than the product's period."""
    from train.observe.ranks import Ranks

    Ranks.__init__.__defaults__ = (1,)  # type: ignore[misc]


def clock_jumps(by: float) -> None:
    """From now on, wall clock and file times are off by `by` seconds. The monotonic clock goes on: no kernel lets it jump."""
    from train.monitor import monitor

    true = time.clock_gettime
    time.time = lambda: true(time.CLOCK_REALTIME) + by

    class Skewed(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.fromtimestamp(time.time(), tz)

    monitor.datetime = Skewed  # type: ignore[misc]


@contextmanager
def mount(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory at `folder`; the test is skipped where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _before(owner: Any, name: str, action: Fault) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        action()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _nothing() -> None:
    pass


kill = partial(send, signal.SIGKILL)
