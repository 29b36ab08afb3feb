"""One run in a run folder at a time: two would cut each other's metrics and remove each other's checkpoints.

Rank 0 holds a lock of the operating system on `.lock` in the folder. It ends with the process, however that ends, so no
lock is left behind; the text in the file only says who holds it.
"""

import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from conf.errors import ConfigError
from data_pipeline.lines import on_stderr
from train.run_folder import read_json

LOCK = ".lock"
LEASE = 120.0  # seconds after which file servers give up the locks of a machine that is gone
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}


@contextmanager
def alone_in(folder: Path, rank: int) -> Iterator[None]:
    """Inside, no other run writes to `folder`, which is there and can be written. All ranks call it, with process groups.

    Raises ConfigError, on all ranks, when another run is at work there or nothing can be written.
    """
    import torch.distributed as dist

    descriptor, trouble = _taken(folder) if rank == 0 else (None, "")
    box = [trouble]
    dist.broadcast_object_list(box, 0)
    try:
        if box[0]:
            raise ConfigError(box[0])
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)  # and with it the lock


def _taken(folder: Path) -> tuple[int | None, str]:
    """(descriptor of the lock, what is in the way)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if outside := _link_out_of(folder):
            return None, (
                f"run.name={folder.name}: {outside} is a link to a file outside of its run folder, which this run would write to. "
                "Remove it, or choose another run.name= or run.directory=."
            )
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        return None, _unwritable(folder, error)
    try:
        if not _locked(descriptor, folder):
            return descriptor, (
                f"run.name={folder.name}: another run is at work in {folder} ({_holder(folder)[1]}). Wait for its end or stop it, or "
                "choose another run.name= or run.directory=."
            )
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, _signature(), 0)
        return descriptor, ""
    except OSError as error:
        if error.errno in NO_LOCKS:
            on_stderr(f"{folder}: this file system has no locks; see to it that no second run works there")
            return descriptor, ""
        return descriptor, _unwritable(folder, error)


def _link_out_of(folder: Path) -> Path | None:
    """A link in the folder, which may be a stranger's, to a file elsewhere; those to folders, such as a larger disk's for
    checkpoints, are people's own.
    """
    with os.scandir(folder) as entries:
        links = [Path(entry.path) for entry in entries if entry.is_symlink() and not entry.is_dir()]
    return next((link for link in links if not link.resolve().is_relative_to(folder.resolve())), None)


def _locked(descriptor: int, folder: Path) -> bool:
    """Whether this process has the lock now. One held by a machine that may be gone is waited for."""
    deadline = time.monotonic() + LEASE
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            machine, words = _holder(folder)
            if machine == platform.node() or time.monotonic() > deadline:
                return False
            if not told:
                on_stderr(f"{folder} is another run's ({words}); if that machine is gone, its lock ends within {LEASE:g} s: waiting")
                told = True
            time.sleep(min(1.0, LEASE / 10))


def _signature() -> bytes:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = {"machine": platform.node(), "process": os.getpid(), "job": os.environ.get("SLURM_JOB_ID"), "since": now}
    return json.dumps(told).encode()


def _holder(folder: Path) -> tuple[str, str]:
    """(machine, who in words) by the text in the file, which is not there for a moment after the lock was taken."""
    told = read_json(folder / LOCK)
    if not isinstance(told, dict):
        return platform.node(), "it has just begun"
    job = f", Slurm job {told['job']}" if told.get("job") else ""
    return str(told.get("machine")), f"process {told.get('process')} on {told.get('machine')}{job}, since {told.get('since')}"


def _unwritable(folder: Path, error: OSError) -> str:
    return f"run.directory: {folder} cannot be written ({error.strerror}). Free space or rights there, or choose run.directory=PATH."
