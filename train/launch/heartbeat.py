"""Where every rank stands, so that a rank that waits for ever can say for whom. Imports no torch at the top.

A thread of each rank tells the store at which the ranks met, about once a second, how far its main thread is; the main thread
itself spends nothing on it. Whoever gives up reads twice what the others told. A process that was stopped, or is gone, tells
nothing new in between; one that hangs still tells where. Clocks are not compared.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from traceback import FrameSummary, StackSummary, walk_stack
from typing import Any, TypeVar

from parallel.topology import environment
from train.launch.peers import is_collective, place

INTERVAL = 1.0  # seconds between two beats at most
PATIENCE = 3.0  # seconds, with the store: it may be the hung rank that keeps it
Answer = TypeVar("Answer")
SHOWN = 4  # ranks that are named one by one
DOING = (  # a file on the stack, from its outer end, and what the rank does there
    ("train/probe.py", "reading held-out pages"),
    ("train/saver.py", "saving a checkpoint"),
    ("data_pipeline/stream.py", "waiting for its data"),
    ("parallel/engine.py", "computing"),
)


@dataclass(frozen=True)
class Beat:
    """What a rank told last. count: of its beats. step: "step 17". stands: what it does and where. waits: in a collective call. left: it
    has ended, and why; "" while it runs."""

    count: int
    step: str
    stands: str
    waits: bool = False
    left: str = ""


class Heartbeat:
    """Beats from `start` to `leave`. With one process there is nobody to tell.

    timeout: seconds without progress after which ranks give up. describe: what the run is doing, "step 12".
    """

    def __init__(self, timeout: float, describe: Callable[[], str]) -> None:
        self._interval, self._describe = min(INTERVAL, timeout / 20), describe
        self._rank, self._world, _ = environment()
        self._main, self._count = threading.get_ident(), 0
        self._gave_up: Sequence[FrameSummary] = []  # where it waited when it did
        self._ended = threading.Event()
        self._store: Any = None

    def start(self) -> None:
        """From the main thread, once the ranks have met."""
        if self._world == 1 or "torch" not in sys.modules or "MASTER_PORT" not in os.environ:
            return
        from torch.distributed import TCPStore

        with suppress(RuntimeError):  # without it a lost rank has no name, and everything else works
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            self._store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=PATIENCE))
            self._tell()
            threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def leave(self, why: str = "") -> None:
        """This rank ends. why: its error; "" where it is done."""
        self._ended.set()
        if self._store is not None:
            _within(PATIENCE, lambda: self._tell(why or "done"))

    def missing(self, frames: Sequence[FrameSummary]) -> str:
        """A sentence about those that keep this rank waiting; "" where nobody can be asked. frames: where it waits itself."""
        if self._store is None:
            return ""
        self._gave_up = frames

        def asked() -> str:
            before = self._read()
            time.sleep(2 * self._interval)
            return diagnosis(before, self._read(), self._world)

        found = _within(PATIENCE + 2 * self._interval, asked)
        if found is None:
            self._store = None  # `leave` need not wait for it again
            return "Rank 0, which keeps what ranks tell, does not answer: it hung or died."
        return found

    def _beat(self) -> None:
        with suppress(RuntimeError):  # the store is gone with its rank
            while not self._ended.wait(self._interval):
                self._tell()

    def _tell(self, left: str = "") -> None:
        self._count += 1
        frames = self._gave_up or frames_of_thread(self._main)
        beat = Beat(self._count, self._describe(), standing(frames), any(map(is_collective, frames)), left)
        self._store.set(_key(self._rank), json.dumps(asdict(beat)))

    def _read(self) -> dict[int, Beat]:
        known = [rank for rank in range(self._world) if self._store.check([_key(rank)])]
        told = self._store.multi_get([_key(rank) for rank in known])
        return {rank: Beat(**json.loads(text)) for rank, text in zip(known, told)}


def frames_of_thread(thread: int) -> list[FrameSummary]:
    """The stack of a thread of this process, outermost call first; [] where there is none."""
    frame = sys._current_frames().get(thread)
    return list(StackSummary.extract(walk_stack(frame), lookup_lines=False))[::-1] if frame else []


def standing(frames: Sequence[FrameSummary]) -> str:
    """What a rank does, and where: "computing, in all_reduce, called by _totals (parallel/engine.py:201)"."""
    doing = next((does for entry in frames for file, does in DOING if entry.filename.endswith(file)), "")
    return f"{doing}, {place(frames)}" if doing else place(frames)


def diagnosis(before: Mapping[int, Beat], after: Mapping[int, Beat], world: int) -> str:
    """Who is missing, from what ranks told at two moments at least two beats apart."""
    alive = {rank: beat for rank, beat in after.items() if not beat.left and beat.count > (before[rank].count if rank in before else 0)}
    silent = [rank for rank, beat in after.items() if not beat.left and rank not in alive]
    sentences = [f"rank {rank} ended in {beat.step}: {beat.left}" for rank, beat in after.items() if beat.left and not _lost(beat)]
    sentences += [f"rank {rank} was stopped or is gone, last heard of in {after[rank].step}, {after[rank].stands}" for rank in silent]
    sentences += [f"rank {rank} never came to its first step" for rank in range(world) if rank not in after]
    waiting = _largest(beat for beat in after.values() if beat.waits)
    others = {rank: beat for rank, beat in alive.items() if waiting and (beat.step, beat.stands) != waiting}
    apart = [rank for rank, beat in others.items() if not beat.waits] or ([] if sentences else list(others))
    sentences += [f"rank {rank} is in {after[rank].step}, {after[rank].stands}" for rank in apart]
    shown = [*sentences[:SHOWN], *([f"{len(sentences) - SHOWN} more ranks likewise"] if len(sentences) > SHOWN else [])]
    if waiting:
        count = sum((beat.step, beat.stands) == waiting for beat in after.values())
        who = f"{count} ranks wait" if count < world else "every rank waits"
        shown.append(f"{who if count > 1 else 'one waits'} in {waiting[0]}, {waiting[1]}")
    text = "; ".join(shown)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _lost(beat: Beat) -> bool:
    """It ended because it waited for others."""
    return beat.left.startswith("PeerLost")


def _largest(beats: Iterable[Beat]) -> tuple[str, str] | None:
    places: Sequence[tuple[str, str]] = [(beat.step, beat.stands) for beat in beats]
    return max(places, key=places.count, default=None)


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer | None:
    """The answer of the store; None where it gives none in time: a call to a hung one may never come back."""
    answers: list[Answer] = []

    def asked() -> None:
        with suppress(RuntimeError):
            answers.append(ask())

    thread = threading.Thread(target=asked, name="heartbeat", daemon=True)
    with suppress(RuntimeError):  # a process without memory cannot begin a thread
        thread.start()
        thread.join(seconds)
    return answers[0] if answers else None


def _key(rank: int) -> str:
    return f"heartbeat/{rank}"
