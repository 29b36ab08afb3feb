"""Processes that a command starts itself: one exit code, signals passed on, nobody left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from train.launch.launcher import launch
from train.launch.peers import PEER_LOST

ROOT = Path(__file__).resolve().parents[3]
RANK = "import os, sys, time, signal; rank = int(os.environ['RANK']); "


def test_all_ranks_run_and_know_each_other(tmp_path: Path) -> None:
    names = "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR"
    code = RANK + f"open(f'{tmp_path}/{{rank}}', 'w').write(' '.join(os.environ[n] for n in '{names}'.split()))"
    assert launch(["-c", code], 2) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["0 2 0 2 127.0.0.1", "1 2 1 2 127.0.0.1"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.exit(2 if rank == 0 else 0)", 2),
        (f"time.sleep(0.3 * rank); sys.exit([{PEER_LOST}, 2][rank])", 2),  # rank 1's error made rank 0 lose it
        ("os.kill(os.getpid(), signal.SIGKILL) if rank else None", 128 + signal.SIGKILL),
    ],
)
def test_the_code_is_that_of_the_rank_whose_fault_it_is(
    code: str, expected: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch(["-c", RANK + code], 2) == expected
    assert ("was killed by SIGKILL" in capfd.readouterr().err) == (expected > 128)


def test_a_signal_reaches_every_rank_and_ranks_end_with_their_parent(tmp_path: Path) -> None:
    rank = RANK + textwrap.dedent(f"""
        def end(*_):
            open(f'{tmp_path}/ended-{{rank}}', 'w').close(); sys.exit(143)
        signal.signal(signal.SIGTERM, end)
        open(f'{tmp_path}/ready-{{rank}}-{{sys.argv[1]}}', 'w').close()
        time.sleep(60)
    """)
    for way in (signal.SIGTERM, signal.SIGKILL):
        parent = f"import sys; from train.launch.launcher import launch; sys.exit(launch(['-c', {rank!r}, '{way.name}'], 2))"
        process = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, env=dict(os.environ))
        wait_for(tmp_path, [f"ready-{number}-{way.name}" for number in range(2)])
        process.send_signal(way)
        assert process.wait(timeout=30) == (143 if way is signal.SIGTERM else -signal.SIGKILL)
        wait_for(tmp_path, ["ended-0", "ended-1"])
        for number in range(2):
            (tmp_path / f"ended-{number}").unlink()


def wait_for(folder: Path, names: list[str]) -> None:
    deadline = time.monotonic() + 30
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < deadline, names
        time.sleep(0.02)
