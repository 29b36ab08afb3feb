"""Writes checkpoints while training goes on: one thread, one save at a time, process groups of its own.

The tensors are copied to host memory before `save` returns, so that training may change them. Everything after that
(files, checksums, agreement of the ranks, removal of old folders) happens in the thread. It agrees over a gloo group
that nothing else uses: collectives of two threads in one group would take each other's messages.
"""

import atexit
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist

from parallel import checkpoint
from parallel.device import device
from parallel.errors import CheckpointError
from parallel.pieces import Piece

_open: "weakref.WeakSet[Writer]" = weakref.WeakSet()


@dataclass(frozen=True)
class Written:
    """A save that is whole on disk. seconds: from its copy to its name; at: when it had it, by time.monotonic."""

    seconds: float
    at: float


class Writer:
    """Saves for one engine. All ranks call every method together; errors are the same on all of them.

    A save that fails in the background is reported by the next `wait` or `save`, once, as CheckpointError: training may
    catch it there, say so and go on, for the older checkpoints are as they were.
    """

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._thread: Thread | None = None
        self._error: CheckpointError | None = None
        self.written: Written | None = None  # the last one of this writer
        _open.add(self)

    def save(
        self,
        root: Path,
        step: int,
        pieces: Sequence[Piece],
        extra: dict[str, Any],
        keep: int,
        background: bool = False,
    ) -> Path:
        """As `checkpoint.save`, after the previous save has ended. In the background it returns when `pieces` are copied.

        Raises CheckpointError for the previous save, in which case nothing of this one is done: to go on after a failed
        one, call `wait` first and catch it there.
        """
        self.wait()
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        if not background:
            started = time.monotonic()
            folder = checkpoint.save(root, step, pieces, extra, keep, self._group)
            self.written = Written(time.monotonic() - started, time.monotonic())
            return folder
        job = (Path(root), step, on_host(pieces), extra, keep, self._group)
        self._thread = Thread(target=self._run, args=job, name=f"checkpoint of step {step}")
        self._thread.start()  # no daemon: the interpreter does not exit before it has ended
        return Path(root) / f"step-{step:08d}"

    def wait(self) -> None:
        """Returns when nothing is being written any more. Raises the error of a save in the background."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """As `wait`; then leaves the process group. `save` would make a new one."""
        try:
            self.wait()
        finally:
            if self._group is not None and dist.is_initialized():
                dist.destroy_process_group(self._group)
            self._group = None

    def _run(self, root: Path, step: int, *job: Any) -> None:
        started = time.monotonic()
        try:
            if device().type == "cuda":
                torch.cuda.set_device(device())  # a new thread begins at GPU 0
            checkpoint.save(root, step, *job)
            self.written = Written(time.monotonic() - started, time.monotonic())
        except CheckpointError as error:
            self._error = error
        except Exception as error:  # a lost peer, for one: it must not end as a traceback of a thread
            self._error = CheckpointError(f"{root / f'step-{step:08d}'} was not written: {error!r}.")
            self._error.__cause__ = error


def on_host(pieces: Sequence[Piece]) -> list[Piece]:
    """Copies, in host memory, of the pieces that this rank writes; from a GPU through pinned memory, in one go."""
    copies = []
    for piece in pieces:
        if piece.first:
            source = piece.tensor.detach()
            target = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
            copies.append(replace(piece, tensor=target.copy_(source, non_blocking=True)))
    if any(piece.tensor.is_cuda for piece in pieces):
        torch.cuda.synchronize()
    return copies


def close_all() -> None:
    """Waits for every save in flight, before process groups are destroyed; an error that nobody asked for is printed."""
    for writer in list(_open):
        try:
            writer.close()
        except CheckpointError as error:
            print(error, file=sys.stderr, flush=True)


atexit.register(close_all)
