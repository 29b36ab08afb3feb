"""A thread that ends a run which makes no progress, and says where every thread of it stands.

A collective call on the CPU gives up by itself after `run.timeout`; a read from a dead file system, a deadlock, or a GPU
that waits for one of another machine does not.
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from train.launch.flight_recorder import dump_collectives
from train.launch.heartbeat import Heartbeat, frames_of_thread
from train.launch.peers import PEER_LOST, PeerLost, as_lost_peer, frames_of, place

FIRST = 3.0  # times the patience for the first beat: kernels are chosen, connections made, caches filled
TICKS = 20  # looks at the clock within one timeout


class Watchdog:
    """Ends this process when `beat` was not called for `timeout` seconds and a little more; exit code PEER_LOST.

    describe: what the run is doing, "step 12". on_expiry: gets the message before the end, from the watchdog's thread.
    Use as a context manager around the work; an error that came of a lost peer leaves it as PeerLost.
    """

    def __init__(
        self,
        timeout: float,
        describe: Callable[[], str],
        rank: int = 0,
        on_expiry: Callable[[str], object] = lambda message: None,
    ) -> None:
        self.timeout = timeout
        self._describe, self._rank, self._on_expiry = describe, rank, on_expiry
        self._lock = threading.Lock()
        self._silent = 0.0  # seconds since the last beat, as this thread lived them: a suspended process is not hung
        self._patience = FIRST
        self._ended = threading.Event()
        self._main, self._gpu = threading.get_ident(), False
        self._heartbeat = Heartbeat(timeout, describe)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """The run has made progress."""
        with self._lock:
            self._silent, self._patience = 0.0, 1.0

    @property
    def limit(self) -> float:
        """Seconds without a beat that it bears.

        A collective on the CPU raises an error after `timeout`, which says more; NCCL ends the process, and says less.
        """
        return self._patience * (0.9 * self.timeout if self._gpu else 1.1 * self.timeout + 2)

    def __enter__(self) -> Self:
        self._gpu = _on_gpu()
        self._heartbeat.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        lost = as_lost_peer(error, f"in {self._describe()}, {self._silent:.1f} s after the one before it") if error else None
        if lost is None or lost is error:
            self._heartbeat.leave(f"{type(error).__name__}: {error}" if error else "")
            return
        missing = self._heartbeat.missing(frames_of(trace))
        self._heartbeat.leave(f"PeerLost: {lost}")
        raise PeerLost(f"{lost} {missing}".strip()) from error

    def _watch(self) -> None:
        tick = self.timeout / TICKS
        while not self._ended.wait(tick):
            with self._lock:
                self._silent += tick
                expired = self._silent > self.limit
            if expired:
                self._expire()

    def _expire(self) -> None:
        frames = frames_of_thread(self._main)
        missing = self._heartbeat.missing(frames)
        message = (
            f"no progress for {self._silent:.0f} s (run.timeout={self.timeout:g}) in {self._describe()}, {place(frames)}: this "
            "process hangs, or waits for another one that hung or died; look at the output of all ranks. The same command "
            "goes on from the newest checkpoint; where a step, an evaluation or a save may take so long, choose a larger "
            f"run.timeout. {missing}".strip()
        )
        sys.stdout.flush()
        print("Where each thread stands:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        print(f"[rank {self._rank}]: {message}", file=sys.stderr, flush=True)
        try:
            self._on_expiry(message)
            if self._gpu and (path := dump_collectives(self._rank)):
                print(f"[rank {self._rank}]: its last collectives: {path}", file=sys.stderr, flush=True)
        finally:
            os._exit(PEER_LOST)


def _on_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())
