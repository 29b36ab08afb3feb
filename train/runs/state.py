"""Whether a run that says it runs does: by the lock that its process holds, else by how long it has been silent.

Clocks of other machines are trusted to minutes: silence is told in words, and counts only when it is longer than anything a
run does between two lines.
"""

import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from train.monitor.console import duration
from train.run_folder import read_json
from train.run_lock import LOCK

STATES = ["running", "finished", "stopped", "failed", "lost", "unknown"]
WATCHED = ("metrics.jsonl", "status.json", LOCK)  # what a run at work writes to
PATIENCE = 2.0  # times run.timeout, after which a run without progress would have ended itself
TIMEOUT = 600.0  # seconds, where a run does not say


def state_of(folder: Path, status: Mapping[str, Any], timeout: float = TIMEOUT) -> tuple[str, str]:
    """(one of STATES, why in words) of a run by its status.json. timeout: its run.timeout, seconds."""
    told = str(status.get("state", "unknown"))
    if told == "failed":
        return told, str(status.get("error") or "").strip().partition("\n")[0]
    if told == "stopped":
        seconds = status.get("saved_seconds")
        saved = f", saved in {seconds:.1f} s" if isinstance(seconds, (int, float)) else ""
        return told, f"{status.get('signal') or 'a signal'}{saved}"
    if told != "running":
        return (told, "") if told in STATES else ("unknown", "status.json cannot be read")
    silent = silence(folder)
    said = f"silent for {duration(silent)}"
    held = holds_its_lock(folder)
    if held is False:
        return "lost", f"its process is gone, {said}"
    if held is None and silent > PATIENCE * timeout:
        return "lost", said
    return "running", said if silent > timeout else ""


def silence(folder: Path) -> float:
    """Seconds since the run last wrote something; 0 where that lies in the future of this machine's clock."""
    newest = 0.0
    for name in WATCHED:
        with suppress(OSError):
            newest = max(newest, (folder / name).stat().st_mtime)
    return max(0.0, time.time() - newest)


def holds_its_lock(folder: Path) -> bool | None:
    """Whether the run's process lives; None where this machine cannot know it. Nobody's lock is touched."""
    holder = read_json(folder / LOCK)
    if not isinstance(holder, dict) or holder.get("machine") != platform.node():
        return None
    try:
        entries = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        place = (folder / LOCK).stat()
    except OSError:
        return None
    return any("FLOCK" in entry and entry.split()[-3].endswith(f":{place.st_ino}") for entry in entries)
