"""Runs `python -m train` with a fault in it, cheaply: many runs, one import of torch.

Each rank is a real process with real files, signals and ports. It is forked from a server that has imported what `train`
imports and nothing more (no thread, no group, no random number), installs its fault, and becomes `python -m train`. That
saves eight of the nine seconds that a run of a few steps takes. Faults live here and not in the product.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from ranks import free_ports, process

from tests.faults.injections import Fault
from tests.forked import ROOT, become, launched

STEPS = 8


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
        arguments = ["train", *self.base, f"run.directory={folder.parent}", f"run.name={name}", *overrides]
        said = (self.said or folder.parent) / f"{name}.said-{time.monotonic_ns()}"
        said.mkdir(parents=True)
        port = port or free_ports(1)[0]
        ranks = []
        for rank in range(world):
            environment = {**os.environ, **launched(rank, world, port), "CUDA_VISIBLE_DEVICES": ""}  # faults are injected on CPUs
            streams = said / f"{rank}.out", said / f"{rank}.err"
            ranks.append(process(become, arguments, ROOT, streams, environment, (faults or {}).get(rank)))
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
