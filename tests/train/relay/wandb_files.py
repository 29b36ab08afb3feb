"""What stands in wandb's own files, read by wandb's own tools; and a run that is all there is to a training for wandb."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb as wandb_of_python

from train.monitor.monitor import Monitor

REPOSITORY = Path(__file__).parents[3]


@dataclass
class Logger:
    wandb: str = "offline"
    project: str = "microfiche"
    console_every: int = 1000


def wandb(*arguments: object) -> str:
    """What `wandb …` prints."""
    told = subprocess.run(
        [sys.executable, "-m", "wandb", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return told.stdout + told.stderr


def records(folder: Path) -> list[dict[str, Any]]:
    """Every record of one of wandb's folders. wandb's reader is asked without the second that its command line takes."""
    found = list(folder.glob("run-*.wandb"))
    if not found:
        return []
    reader = [Path(wandb_of_python.__file__).parent / "bin" / "wandb-core", "leet", "inspect", "--json", "--run-file", *found]
    told = subprocess.run(reader, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]


def is_finished(folder: Path) -> bool:
    """Whether wandb has written the end of a run."""
    return any(record["type"] == "exit" for record in records(folder))


def history(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """(step, values) as they were logged."""
    found = [record["history"] for record in records(folder) if record["type"] == "history"]
    return [(row["step"]["num"], row["item"]) for row in found]


def offline_folders(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*"))


def monitor(folder: Path, start: int = 0, **logger: str) -> Monitor:
    return Monitor(folder, Logger(**logger), 100, start_step=start, name=folder.name)


def steps(target: Monitor, first: int, last: int, loss: float) -> None:
    """Logs these steps, with a look at held-out pages after every third."""
    for step in range(first, last + 1):
        target.step(step, {"loss": loss, "tokens": 100 * step, "grad_norm": None})
        if step % 3 == 0:
            target.evaluation(step, {"image_gain": step / 10})


def children(pid: int) -> list[int]:
    """Processes that this one has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def core_of(relay: int) -> int:
    """wandb's service below our process, 0 while there is none."""
    for child in children(relay):
        if b"wandb-core" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    return 0


def killed_while_it_trains(folder: Path) -> None:
    """A process that logs nine steps and is killed; what it started is left to itself."""
    code = (
        "import os, signal, sys, time; from pathlib import Path; from tests.train.relay.wandb_files import monitor, steps\n"
        f"steps(monitor(Path({str(folder)!r})), 1, 9, 1.0); time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    assert done.returncode == -9
