"""What a run remembers of itself through restarts: `history.json` in its folder. Imports no torch."""

import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from train.run_folder import read_json, read_rows, write_json

HISTORY = "history.json"


@dataclass(frozen=True)
class History:
    """began: when the first process of the run began, seconds since 1970. starts: of a process, this one included. lost_steps: that were
    done and, for want of a checkpoint, done again."""

    began: float
    starts: int = 1
    lost_steps: int = 0


def begun(folder: Path, step: int, anew: bool, rank: int = 0) -> History:
    """The history with this start in it, written by rank 0; to be called before metrics.jsonl is cut back to `step`.

    step: that the run goes on after. anew: whatever is in the folder is another run's.
    """
    now = time.time()
    if rank:
        return History(now)
    before = _read(folder) if not anew else None
    if before is None:
        history = History(now - process_age())
    else:
        reached = max((row["step"] for row in read_rows(folder / "metrics.jsonl")), default=0)
        history = History(min(before.began, now), before.starts + 1, before.lost_steps + max(0, reached - step))
    write_json(folder / HISTORY, asdict(history))
    return history


def process_age() -> float:
    """Seconds since this process began, its imports included; 0 where Linux's /proc is not."""
    try:
        ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))


def _read(folder: Path) -> History | None:
    content = read_json(folder / HISTORY)
    names = {field.name for field in fields(History)}
    if not isinstance(content, dict) or set(content) != names:
        return None
    return History(**content) if all(isinstance(value, int | float) for value in content.values()) else None
