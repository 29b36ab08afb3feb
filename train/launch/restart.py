"""What becomes of a Slurm job whose processes have ended: it is done, goes on where it is, is queued again, or ends.

The scripts in slurm/ ask before each start and after each end:

    python -m train.launch.restart begin FOLDER          prints a line about the start
    python -m train.launch.restart end FOLDER CODE       prints WORD and why: done, again (in this allocation), requeue, stop

Exit codes do not tell a preempted run from a crashed one: which rank's code srun reports is a matter of who ends first. So status.json
of the run decides, then Slurm's own word on the job, then the code. What is counted is kept in FOLDER/slurm/JOB.json: with a new job, the
count begins anew. MAX_CRASHES (3): crashes in a row without a new checkpoint after which it gives up. RESTARTS_IN_JOB (1): how many of them are
answered in the same allocation, before Slurm is asked for another. Standard library only: it takes 0.1 s.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from train.run_folder import CAUSE, read_json, write_json

USER_ERRORS = (2, 76)  # exit codes: of conf.command, of too little memory
SHOWN = 80  # characters of an error in the line about it


@dataclass
class Record:
    """What is kept of a job between its starts. progress: see `progress_of`. open: it was started, and no end was seen."""

    starts: int = 0
    crashes: int = 0  # in a row, without progress
    progress: int = 0
    open: bool = False
    seen: dict[str, int] = field(default_factory=dict)  # status.json -> when it was written before this start


@dataclass(frozen=True)
class Ended:
    """How the processes ended. state: of the status.json that they wrote, None where they wrote none. fault: an error that
    is the user's to mend. leaving: Slurm ends the job already, by itself. preempted: it has asked the job to make room."""

    code: int
    state: str | None = None
    fault: str | None = None
    error: str = ""
    progress: int = 0
    leaving: bool = False
    preempted: bool = False


@dataclass(frozen=True)
class Limits:
    """crashes: in a row without progress, after which a job ends. in_job: of these, answered without a new allocation."""

    crashes: int = 3
    in_job: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Limits":
        """From MAX_CRASHES and RESTARTS_IN_JOB."""
        return cls(int(environment.get("MAX_CRASHES", cls.crashes)), int(environment.get("RESTARTS_IN_JOB", cls.in_job)))


def decide(ended: Ended, record: Record, limits: Limits) -> tuple[str, str]:
    """(word, reason); counts in `record`."""
    gained = ended.progress > record.progress
    record.progress, record.open = max(ended.progress, record.progress), ended.leaving
    if ended.code == 0 or ended.state == "finished":
        return "done", "finished"
    if ended.leaving:
        return "stop", "Slurm ends the job: cancelled, or taken elsewhere. What is saved stays, the same command with the same name goes on"
    if ended.fault is not None:
        return "stop", f"not started again, as the same would happen: {ended.fault}"
    if ended.state == "stopped" or ended.code == 128 + signal.SIGUSR1:
        record.crashes = 0
        return "requeue", "stopped by a signal; queued again"
    if ended.preempted:
        return "requeue", "preempted before it had anything to save; queued again"
    record.crashes = 1 if gained else record.crashes + 1
    crash = f"crashed ({shortened(ended.error) or f'exit code {ended.code}'})"
    if record.crashes >= limits.crashes:
        return "stop", f"{crash}, {record.crashes} times in a row without a new checkpoint: gives up"
    if record.crashes <= limits.in_job:
        return "again", f"{crash}; starts again in this allocation"
    return "requeue", f"{crash}, {record.crashes} times in a row; queued again"


def begin(folder: Path, environment: Mapping[str, str]) -> str:
    """Notes a start of the job's processes; the line that tells of it."""
    path = _path(folder, environment)
    record, progress = _read(path), progress_of(folder)
    lost, record.open = record.open, True
    record.starts, record.seen = record.starts + 1, {str(status): status.stat().st_mtime_ns for status in _statuses(folder)}
    if record.starts == 1:
        record.progress = progress
    for told in (error_file(folder, environment), folder / CAUSE):
        told.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(record))
    where = f"{environment.get('SLURM_NTASKS', '1')} processes on {environment.get('SLURM_JOB_NODELIST', 'this machine')}, {folder}"
    if record.starts == 1:
        return f"starts, {where}"
    why = "Slurm took its nodes away (lost, or preempted at once); " if lost else ""
    return f"{why}start {record.starts}, {where}"


def end(folder: Path, code: int, environment: Mapping[str, str]) -> tuple[str, str]:
    """What to do now that the processes have ended with this code, and why."""
    path = _path(folder, environment)
    record = _read(path)
    status = _written(folder, record.seen)
    shown = _shown_by_slurm(environment.get("SLURM_JOB_ID", ""))
    ended = Ended(
        code,
        status.get("state"),
        _fault(code, [status, read_json(folder / CAUSE) or {}], error_file(folder, environment)),
        str(status.get("error", "")),
        progress_of(folder),
        leaving=shown.get("JobState", "RUNNING") != "RUNNING",
        preempted=shown.get("PreemptTime", "None") not in ("None", "Unknown"),
    )
    word, reason = decide(ended, record, Limits.of(environment))
    write_json(path, asdict(record))
    if word == "requeue" and ended.state == "stopped" and "saved_seconds" in status:
        reason = f"{status.get('signal')}: saved at step {status.get('step')}, {status['saved_seconds']} s after the signal; queued again"
    return word, reason


def shortened(message: str) -> str:
    """The beginning of a message that stands whole in the log above."""
    line = (message.splitlines() or [""])[0]
    return line if len(line) <= SHOWN else line[:SHOWN].rsplit(" ", 1)[0] + " ..."


def progress_of(folder: Path) -> int:
    """A number that grows with what a crash cannot take away: the newest checkpoint of each stage, and a recipe's finished steps."""
    newest: dict[Path, int] = {}
    for pattern in ("checkpoints/step-*", "*/checkpoints/step-*"):
        for path in folder.glob(pattern):
            if found := re.fullmatch(r"step-(\d+)", path.name):
                newest[path.parent] = max(int(found[1]), newest.get(path.parent, 0))
    recipe = read_json(folder / "recipe.json") or {}
    return sum(newest.values()) + sum(step.get("state") == "done" for step in recipe.get("steps", []))


def error_file(folder: Path, environment: Mapping[str, str]) -> Path:
    """Where conf.command leaves the message of an error that is the user's to mend (TORCHELASTIC_ERROR_FILE)."""
    return folder / "slurm" / f"{environment.get('SLURM_JOB_ID', '0')}-error.json"


def _path(folder: Path, environment: Mapping[str, str]) -> Path:
    return folder / "slurm" / f"{environment.get('SLURM_JOB_ID', '0')}.json"


def _read(path: Path) -> Record:
    """Raises ValueError where it cannot be read: who loses count must not start crashing runs for ever."""
    if not path.exists():
        return Record()
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except TypeError:
        raise ValueError(f"{path} is not what this wrote") from None


def _statuses(folder: Path) -> list[Path]:
    """status.json of a run, or of each stage of a recipe."""
    return [path for pattern in ("status.json", "*/status.json") for path in folder.glob(pattern)]


def _written(folder: Path, seen: Mapping[str, int]) -> dict[str, Any]:
    """The newest status.json that was written since the start; {} where there is none. A recipe is not finished with a stage."""
    written = {path: path.stat().st_mtime_ns for path in _statuses(folder)}
    written = {path: when for path, when in written.items() if seen.get(str(path)) != when}
    if not written:
        return {}
    newest = max(written, key=lambda path: written[path])
    status = read_json(newest) or {}
    return status if newest.parent == folder or status.get("state") != "finished" else {}


def _fault(code: int, told: Sequence[Mapping[str, Any]], left: Path) -> str | None:
    """The message of an error that is the user's to mend; None where there was no such error."""
    if mine := [ending.get("error") for ending in told if ending.get("user_error")]:
        return str(mine[0])
    if left.exists():
        try:
            return str(json.loads(left.read_text(encoding="utf-8"))["message"]["message"])
        except (OSError, ValueError, KeyError, TypeError):
            return "see the message above"  # killed while it wrote
    return "see the message above" if code in USER_ERRORS else None


def _shown_by_slurm(job: str) -> dict[str, str]:
    try:
        shown = subprocess.run(["scontrol", "show", "job", job, "-o"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(re.findall(r"(\w+)=(\S+)", shown.stdout))


def main(arguments: Sequence[str]) -> int:
    """The command; a count that cannot be kept ends the job, as nothing would end a crash loop."""
    word, folder, *code = arguments
    try:
        if word == "begin":
            print(begin(Path(folder), os.environ))
        else:
            print(*end(Path(folder), int(code[0]), os.environ))
    except (OSError, ValueError) as error:
        print(f"stop the count of crashes cannot be kept ({error}): gives up")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
