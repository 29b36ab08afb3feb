"""A peer that hangs or dies, and a process that makes no progress: each ends in one message and one exit code, in time."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from train.launch.peers import PEER_LOST, as_lost_peer

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = 4.0  # seconds, as run.timeout
HANGS = 0  # in the place of a signal: a read that never comes back
RANK = """
    import os, signal, sys, time
    from data_pipeline.prefetch import Prefetcher
    from train.launch.peers import ending_with_lost_peers
    from train.launch.watchdog import Watchdog
    rank, lost, number = int(os.environ["RANK"]), int(sys.argv[1]), int(sys.argv[2])
    with ending_with_lost_peers("python -m train", rank, {timeout}):
        import torch, torch.distributed as dist
        from datetime import timedelta
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))  # a busy machine may start one much later
        group = dist.new_group(timeout=timedelta(seconds={timeout}))  # as parallel.topology.start's, without megatron-core
        steps = [0]
        with Watchdog({timeout}, lambda: f"step {{steps[0] + 1}}", rank) as watchdog:
            while True:
                dist.all_reduce(torch.ones(3), group=group)
                steps[0] += 1
                watchdog.beat()
                if steps[0] == 5 and rank == lost:
                    time.sleep(0.5)  # more than two beats
                    print("ready", time.time(), flush=True)
                    os.kill(os.getpid(), number) if number else next(Prefetcher(iter(lambda: time.sleep(60), 0), 1))
"""
ALONE = """
    import time
    from train.launch.watchdog import Watchdog
    def stuck_reader():
        while True:
            time.sleep(0.1)
    def expired(message):
        print("told:", message, flush=True)
    with Watchdog(0.4, lambda: "step 7", 3, expired) as watchdog:
        for _ in range(4):
            time.sleep(0.3)
            watchdog.beat()
        print("alive", flush=True)
        stuck_reader()
"""


def ranks(lost: int, number: int) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    program = textwrap.dedent(RANK.format(timeout=TIMEOUT))
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, str(lost), str(int(number))],
            cwd=ROOT, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip


@pytest.mark.fault(
    "hung collective",
    injected="SIGSTOP to a rank of 2, SIGKILL, or a read that never returns",
    handled="after run.timeout every waiting rank says where and for whom it waits, and ends with exit code 75 (try again)",
    lost="the steps since the last checkpoint, done again",
)
@pytest.mark.parametrize(
    ("lost", "number", "within", "told", "who"),
    [
        (1, signal.SIGSTOP, TIMEOUT + 4, "it did not answer", "Rank 1 was stopped or is gone, last heard of in step 6, "),
        (0, signal.SIGSTOP, TIMEOUT + 8, "it did not answer", "Rank 0, which keeps what ranks tell, does not answer"),
        (1, signal.SIGKILL, 4.0, "that process is gone", "Rank 1 was stopped or is gone, last heard of in step 6, "),
        (1, HANGS, TIMEOUT + 4, "it did not answer", "Rank 1 is in step 6, in __next__ (data_pipeline/prefetch.py:"),
    ],
)
def test_the_rank_that_waits_says_where_it_waits_for_whom_and_ends(lost: int, number: int, within: float, told: str, who: str) -> None:
    started = ranks(lost, number)
    hung, waiting = started.pop(lost), *started
    try:
        assert hung.stdout is not None
        since = float(hung.stdout.readline().split()[1])
        assert waiting.wait(timeout=60) == PEER_LOST
        assert time.time() - since < within
        assert waiting.stderr is not None
        message = waiting.stderr.read().strip().splitlines()
        assert len(message) == 1, message
        assert message[0].startswith(f"python -m train [rank {1 - lost}]: waited for another process in step 6,")
        assert "in all_reduce" in message[0]
        assert told in message[0] and who in message[0]
        assert lost == 0 or "one waits in step 6, in all_reduce" in message[0]
    finally:
        hung.kill()
        waiting.kill()
        hung.wait()


@pytest.mark.fault(
    "hung collective",
    injected="a process that makes no progress and waits for nobody",
    handled="a watchdog of its own prints where every thread stands and ends it",
    lost="the steps since the last checkpoint, done again",
)
def test_without_progress_a_process_shows_its_stacks_and_ends() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ALONE)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == PEER_LOST
    assert ran.stdout.splitlines()[0] == "alive"
    assert ran.stdout.splitlines()[1].startswith("told: no progress for")
    assert "in stuck_reader" in ran.stderr  # a line of the stack
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("[rank 3]: no progress for")
    assert "in step 7" in last and "run.timeout" in last


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("Timed out waiting")])
def test_errors_of_ones_own_stay_what_they_are(error: Exception) -> None:
    assert as_lost_peer(error, "in step 1") is None
