"""`status.json`: how a run stands or how it ended, for people, for `python -m train.runs`, and for what starts it again.

    name, state, step, total_steps, updated    state: "running", "finished", "stopped" (by a signal) or "failed"
    restarts                    how often it was started again in this folder
    saved_step                  the newest step that is known to be in a whole checkpoint
    signal, saved_seconds       "stopped": which signal, and the seconds from its arrival until all was saved
    error, user_error           "failed": what happened, and whether it is the user's to mend (the same start would fail again)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conf.command import is_user_error
from train.launch.peers import PeerLost
from train.run_folder import CAUSE, plain, read_json, write_json

STATUS = "status.json"


class Status:
    """Writes status.json of the run in `folder`; what was told once stays, but for what an earlier process told."""

    def __init__(self, folder: Path, name: str, total_steps: int, saved_step: int) -> None:
        """saved_step: of the checkpoint that the run goes on from; 0 at its start."""
        self._path, self._total_steps = folder / STATUS, total_steps
        self._fields = {"name": name, "restarts": restarts_of(folder), "saved_step": saved_step}

    def write(self, state: str, step: int, fields: Mapping[str, Any]) -> None:
        """Replaces the file in one motion."""
        self._fields |= plain(fields)
        own = {"state": state, "step": step, "total_steps": self._total_steps, "updated": _now()}
        write_json(self._path, self._fields | own)


def restarts_of(folder: Path) -> int:
    """How often the run in `folder` will have been started again, when it is started now."""
    earlier = read_json(folder / STATUS)
    return earlier.get("restarts", 0) + 1 if isinstance(earlier, dict) else 0


def ending(error: BaseException) -> dict[str, Any]:
    """The fields of status.json for a run that ends with `error`."""
    if isinstance(error, KeyboardInterrupt):
        return {"state": "stopped", "signal": "SIGINT"}
    return {"state": "failed", "error": f"{type(error).__name__}: {error}", "user_error": is_user_error(error)}


@contextmanager
def ending_told(folder: Path, rank: int) -> Iterator[None]:
    """Inside, an error is told in status.json even where there is no monitor yet (no memory for the model, no valid checkpoint),
    or where it is another rank's that rank 0 lost."""
    if rank == 0:
        (folder / CAUSE).unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # the disk is full: the error itself says more
            if rank == 0:
                _tell(folder, error)
            elif not isinstance(error, PeerLost):
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / CAUSE, {"rank": rank} | ending(error))
        raise


def _tell(folder: Path, error: BaseException) -> None:
    """Status.json says why the run ended, unless the monitor has said so."""
    told, cause = (read_json(folder / name) for name in (STATUS, CAUSE))
    told, found = told if isinstance(told, dict) else {}, ending(error)
    if isinstance(error, PeerLost) and isinstance(cause, dict):
        found = cause | {"error": f"rank {cause['rank']}: {cause.get('error', '')}"}
    if found.items() <= told.items():
        return
    folder.mkdir(parents=True, exist_ok=True)
    by_monitor = told.get("state") == "failed" and told.get("error") == ending(error).get("error")
    kept = told if by_monitor else {key: told[key] for key in ("step", "total_steps", "saved_step") if key in told}
    restarts = {} if by_monitor else {"restarts": restarts_of(folder)}
    write_json(folder / STATUS, {"name": folder.name} | kept | restarts | found | {"updated": _now()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
