"""The sandbox as tests use it: jobs that are submitted as a user does, watched, and hit."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SANDBOX = REPOSITORY / "tests" / "slurm" / "sandbox"
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
PATIENCE = 150.0  # seconds


def until(found: Callable[[], object], what: str, patience: float = PATIENCE) -> float:
    """Waits until `found()` is true; the seconds that it took."""
    started = time.monotonic()
    while not found():
        assert time.monotonic() - started < patience, f"after {patience:.0f} s still not: {what}"
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass(frozen=True)
class Job:
    """A job of the sandbox. folder: where sbatch was called."""

    cluster: "Cluster"
    number: int
    folder: Path
    run: str  # the run's folder, below `folder`

    def shown(self, name: str) -> str:
        """A field of `scontrol show job`."""
        told = self.cluster.call("scontrol", "show", "job", str(self.number), "-o").stdout
        found = re.search(rf"\b{name}=(\S+)", told)
        return found[1] if found else ""

    @property
    def log(self) -> str:
        """What the job has printed."""
        found = [*self.folder.glob(f"*-{self.number}.log")]
        return found[0].read_text() if found else ""

    @property
    def events(self) -> list[str]:
        """What the job script has told, a line an event, without the time."""
        return [line.split(": ", 1)[1] for line in self.log.splitlines() if re.match(rf"\d\d:\d\d:\d\d \S+ {self.number}: ", line)]

    @property
    def rows(self) -> list[dict]:
        """The steps in metrics.jsonl."""
        path = self.folder / self.run / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [row for line in lines if line.endswith("}") and "grad_norm" in (row := json.loads(line))]

    @property
    def step(self) -> int:
        """The last step that is logged."""
        return self.rows[-1]["step"] if self.rows else 0

    @property
    def status(self) -> dict:
        """status.json; {} before there is one."""
        path = self.folder / self.run / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wait(self) -> str:
        """Until the job is over; its state."""
        until(lambda: self.shown("JobState") in OVER, f"job {self.number} ends. Its log:\n{self.log}")
        return self.shown("JobState")

    def ranks(self, rank: int) -> list[int]:
        """Process ids of one rank of the job."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                names = (entry / "environ").read_text(errors="replace").split("\0") if entry.name.isdecimal() else []
                ours = {f"SLURM_JOB_ID={self.number}", f"SLURM_PROCID={rank}", f"SLURM_CONF={self.cluster.config}"} <= set(names)
                if ours and "SLURM_STEP_ID" in "".join(names) and "-m\0train\0" in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended
        return found

    def kill_rank(self, rank: int) -> None:
        """SIGKILL, as the kernel's out-of-memory killer sends it."""
        for process in self.ranks(rank):
            os.kill(process, signal.SIGKILL)


STRAY = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # of a launcher in the shell of sbatch


class Cluster:
    """A sandbox of its own, in `folder`."""

    def __init__(self, folder: Path, nodes: int, port: int) -> None:
        self.config = folder / "slurm.conf"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        self._environment = {
            **kept, "SANDBOX": str(folder), "SANDBOX_NODES": str(nodes), "SANDBOX_PORT": str(port), "SLURM_CONF": str(self.config),
            "MICROFICHE": str(REPOSITORY), "PYTHON": sys.executable, **STRAY,
        }  # fmt: skip

    def call(self, *arguments: str, folder: Path = REPOSITORY, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a command beside this cluster, with more variables in its environment."""
        return subprocess.run(arguments, cwd=folder, env=self._environment | more, capture_output=True, text=True, timeout=60)

    def sandbox(self, *arguments: str) -> None:
        """`tests/slurm/sandbox up`, `crash n2`, ..."""
        done = self.call(str(SANDBOX), *arguments)
        assert done.returncode == 0, done.stderr

    def submit(self, folder: Path, *command: str, run: str = "", **more: str) -> Job:
        """`sbatch COMMAND`, from `folder`. run: the folder of its run, below that."""
        done = self.call("sbatch", "--parsable", *command, folder=folder, **more)
        assert done.returncode == 0, done.stderr
        number = int(done.stdout)
        return Job(self, number, folder, run or f"runs/pretrain-{number}")
