"""Several processes of a command on this machine, without a launcher: what `processes=2` of a recipe starts.

torchrun answers a rank's error with its own long trace and exit code 1. Here the rank's message stands alone, and its
exit code is the command's. The processes meet as under torchrun, by the same variables.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from train.launch.peers import PEER_LOST

PATIENCE = 20.0  # seconds that the others get to end by themselves after one has failed
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def launch(arguments: Sequence[str], processes: int) -> int:
    """Runs `python ARGUMENTS` as ranks 0 to `processes` - 1 and returns their exit code: 0 where all ended well.

    Else the code of the rank that failed first, 128 + the signal where one killed it. Signals are passed on to the
    ranks; where this process dies, they are asked to stop.
    """
    environment = {**os.environ, **_meeting_point(processes)}
    ranks = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            start_new_session=True,  # Ctrl-C reaches them once: from here
            preexec_fn=_end_with_parent,
        )
        for rank in range(processes)
    ]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in FORWARDED}
    try:
        return _wait(ranks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for rank in ranks:
            rank.kill()  # nothing where it has ended


def _wait(ranks: Sequence[subprocess.Popen]) -> int:
    """The exit code of all; ranks that outlive a failed one for too long are ended."""
    failed: dict[int, int] = {}
    deadline = float("inf")
    while any(rank.poll() is None for rank in ranks):
        time.sleep(0.05)
        failed |= {number: rank.returncode for number, rank in enumerate(ranks)
                   if rank.returncode and number not in failed}  # fmt: skip
        if failed:
            deadline = min(deadline, time.monotonic() + PATIENCE)
        if time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
    failed |= {number: rank.returncode for number, rank in enumerate(ranks) if rank.returncode and number not in failed}
    if not failed:
        return 0
    # One that lost a peer is not the cause
    number, code = min(failed.items(), key=lambda entry: entry[1] == PEER_LOST)
    if code < 0:
        print(f"rank {number} was killed by {signal.Signals(-code).name}{_hint(-code)}", file=sys.stderr)
    return code if code > 0 else 128 - code


def _hint(number: int) -> str:
    return ": was there too little memory?" if number == signal.SIGKILL else ""


def _meeting_point(processes: int) -> dict[str, str]:
    """The variables that are the same for all ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = str(processes)
    return {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _end_with_parent() -> None:
    """Asks Linux to stop this process when its parent dies: a killed recipe must not go on unseen, and meet itself."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
