"""Runs `python -m train` with a fault in it, cheaply: many runs, one import of torch.

Each rank is a real process with real files, signals and ports. It is forked from a server that has imported what `train`
imports and nothing more (no thread, no group, no random number), installs its fault, and becomes `python -m train`. That
saves eight of the nine seconds that a run of a few steps takes. Faults live here and not in the product.
"""

import contextlib
import json
import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from ranks import PRELOADED, free_ports

from tests.faults.injections import Fault

STEPS = 8
_ROOT = Path(__file__).parents[2]
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(PRELOADED)


@dataclass
class Runs:
    """Runs of one configuration that differ in folder and fault. base: overrides of all of them. said: for what they say; else
    it is beside the folder.
    """

    base: Sequence[str]
    said: Path | None = None

    def start(
        self, folder: Path, *overrides: str, world: int = 1, faults: Mapping[int, Fault] | None = None, port: int | None = None
    ) -> "Started":
        """Begins the run in `folder`. faults: by rank."""
        name = folder.name
        argv = ["python -m train", *self.base, f"run.directory={folder.parent}", f"run.name={name}", *overrides]
        said = (self.said or folder.parent) / f"{name}.said-{time.monotonic_ns()}"
        said.mkdir(parents=True)
        port = port or free_ports(1)[0]
        ranks = [
            _SERVER.Process(target=_become_train, args=(argv, dict(os.environ), rank, world, port, said, (faults or {}).get(rank)))
            for rank in range(world)
        ]
        for rank in ranks:
            rank.start()
        return Started(folder, ranks, said)

    def run(self, folder: Path, *overrides: str, world: int = 1, faults: Mapping[int, Fault] | None = None) -> "Started":
        """As `start`, and waits for the end."""
        started = self.start(folder, *overrides, world=world, faults=faults)
        started.wait()
        return started


@dataclass
class Started:
    """A run under way, or over. codes: exit codes by rank, -9 for one that SIGKILL ended."""

    folder: Path
    ranks: list[BaseProcess]
    said: Path

    @property
    def codes(self) -> list[int | None]:
        return [rank.exitcode for rank in self.ranks]

    def out(self, rank: int = 0) -> str:
        return (self.said / f"{rank}.out").read_text()

    def err(self, rank: int = 0) -> str:
        return (self.said / f"{rank}.err").read_text()

    def wait(self, timeout: float = 120.0) -> list[int | None]:
        """The exit codes, when all ranks have ended; AssertionError with what they said after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            for rank in self.ranks:
                rank.join(max(0.0, deadline - time.monotonic()))
                assert rank.exitcode is not None, f"{self.folder} hangs:\n{self.err(0)}\n{self.err(len(self.ranks) - 1)}"
        finally:
            self.kill()
        return self.codes

    def until(self, happened: Callable[[], object], timeout: float = 60.0) -> None:
        """Returns when `happened()`; AssertionError where the run ends before."""
        deadline = time.monotonic() + timeout
        while not happened():
            assert time.monotonic() < deadline, f"nothing happened in {timeout} s: {self.err()}"
            assert any(rank.exitcode is None for rank in self.ranks), f"ended too early: {self.out()}\n{self.err()}"
            time.sleep(0.005)

    def kill(self) -> None:
        for rank in self.ranks:
            rank.kill()
            rank.join()


def rows(file: Path) -> list[dict]:
    """The lines of a file such as metrics.jsonl; each must be whole."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def losses(folder: Path) -> dict[int, tuple[float, float, int]]:
    """step -> (loss, gradient norm, number of its batch), each step once, in order."""
    steps = [row for row in rows(folder / "metrics.jsonl") if "grad_norm" in row]
    found = {row["step"]: (row["loss"], row["grad_norm"], row["batch"]) for row in steps}
    assert len(found) == len(steps), "a step is logged twice"
    assert list(found) == sorted(found), "steps are out of order"
    return found


def notes(folder: Path) -> list[str]:
    """What a run told once."""
    return [row["note"] for row in rows(folder / "metrics.jsonl") if "note" in row]


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def state_of(process: int | None) -> str:
    """Of a process, as the kernel calls it: "R" for one that runs, "T" for a stopped one."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def saved(folder: Path) -> list[str]:
    """Names in the run's folder of checkpoints, in order."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.listdir(folder / "checkpoints"))
    return []


def _become_train(argv: list[str], environment: dict[str, str], rank: int, world: int, port: int, said: Path, fault: Fault | None) -> None:
    """What a forked process does: the environment of a launcher, its own files to speak to, its fault, `python -m train`."""
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / f"{rank}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    os.environ.clear()  # the server's is of the moment it began
    os.environ.update(environment)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # which does not survive a fork
    os.chdir(_ROOT)
    if fault is not None:
        fault()
    sys.argv = argv
    runpy.run_module("train", run_name="__main__", alter_sys=True)
