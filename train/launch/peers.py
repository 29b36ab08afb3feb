"""Other processes that hung or died, told as one message instead of a backend's trace. Imports no torch.

A collective call fails on every rank that waited for the lost one. What is left of the run cannot go on, and cannot be
taken down in good order either: leaving a process group waits for its members. So each rank says what it waited for and
ends at once; the same command resumes the run from its newest checkpoint.
"""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType

PEER_LOST = 75  # the exit code: EX_TEMPFAIL of sysexits.h, "try again"
FAMILIES = {"RuntimeError", "DistError", "DistStoreError", "DistNetworkError", "DistBackendError"}
PHRASES = (  # of gloo, its store and NCCL; each was seen, or stands in torch's source
    "Timed out waiting",
    "wait timeout",
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket Timeout",
    "remote process exited",
    "clients joined",
    "NCCL communicator was aborted",
)
PORT_TAKEN = "EADDRINUSE"  # of the store at which processes meet
OURS = ("train", "parallel", "data_pipeline")  # packages whose names mean something to the reader
ROOT = Path(__file__).resolve().parents[2]


class PeerLost(Exception):
    """Another process hung or died. The message says what this one waited for."""


@contextmanager
def ending_with_lost_peers(program: str, rank: int, timeout: float) -> Iterator[None]:
    """Inside, a lost peer ends this process at once, with one message and exit code PEER_LOST."""
    try:
        yield
    except Exception as error:
        found = as_lost_peer(error, f"for at most {timeout:g} s")
        if found is None:
            raise
        sys.stdout.flush()
        print(f"{program} [rank {rank}]: {found}", file=sys.stderr, flush=True)
        os._exit(PEER_LOST)


def as_lost_peer(error: BaseException, when: str) -> PeerLost | None:
    """The message for an error that is another process's doing; None for any other error. when: "in step 3, ..."."""
    if isinstance(error, PeerLost):
        return error
    if type(error).__name__ in FAMILIES and PORT_TAKEN in str(error):
        return PeerLost(
            f"MASTER_PORT={os.environ.get('MASTER_PORT')} of this machine is taken: by another run, or by what is left of one. A "
            "Slurm job that starts again takes another port; by hand: export MASTER_PORT=ANOTHER, the same one for all processes."
        )
    if type(error).__name__ not in FAMILIES or not any(phrase in str(error) for phrase in PHRASES):
        return None
    died = "Connection" in str(error) or "Broken pipe" in str(error)
    return PeerLost(
        f"waited for another process {when}, {place(frames_of(error.__traceback__))}, "
        f"{'and that process is gone' if died else 'and it did not answer'}: it hung or died. The output of that rank "
        f"tells why; the same command goes on from the newest checkpoint. ({str(error).splitlines()[0][-160:]})"
    )


def frames_of(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames of a traceback, outermost first."""
    return list(traceback.extract_tb(trace))


def place(frames: Sequence[traceback.FrameSummary]) -> str:
    """Where the program stands, in words: "in all_reduce, called by _totals (parallel/engine.py:201)"."""
    ours = [frame for frame in frames if _package(frame.filename) in OURS]
    theirs = [frame for frame in frames if is_collective(frame)]
    call = next((frame.name for frame in reversed(theirs) if frame.name != "wrapper"), "")
    if not ours:
        return f"in {call}" if call else "while starting"
    last = ours[-1]
    caller = f"{last.name} ({Path(last.filename).resolve().relative_to(ROOT)}:{last.lineno})"
    return f"in {call}, called by {caller}" if call else f"in {caller}"


def is_collective(frame: traceback.FrameSummary) -> bool:
    """Whether a frame is of a collective call."""
    return "torch/distributed" in frame.filename and not frame.name.startswith("_")


@cache
def _package(file: str) -> str | None:
    path = Path(file).resolve()
    return path.relative_to(ROOT).parts[0] if path.is_relative_to(ROOT) else None
