"""wandb, kept at arm's length: one run with a fixed id from rank 0, offline when it must be, and never the
end of a run.

Every call into wandb is guarded: the first failure is told in one line and ends the logging, not the
training. Offline runs of one id (one folder a restart) become one run when synced, as each value carries its
own step.
"""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

QUIETEST_LAST = ("online", "offline", "disabled")
INIT_SECONDS = 30  # wandb's own default keeps a run without network waiting for 90 s


class WandbLogger:
    """One wandb run; with mode "disabled", or after any failure, it does nothing.

    The quieter of `mode` and the environment's WANDB_MODE holds. `say` prints one line for a person.
    """

    def __init__(
        self,
        folder: Path,
        mode: str,
        project: str,
        name: str,
        config: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.id: str | None = None
        self.mode = max(mode, os.environ.get("WANDB_MODE", "online"), key=_quietness)
        self._say = say
        self._folder = folder
        self._run: Any = None
        if _quietness(self.mode) == _quietness("disabled"):
            return
        self.id = fixed_id(folder, name)
        attempts: tuple[Literal["online", "offline"], ...] = (
            ("online", "offline") if self.mode == "online" else ("offline",)
        )
        for attempt in attempts:
            try:
                self._run = self._start(attempt, project, name, config)
                self.mode = attempt
                return
            except Exception as error:
                say(f"wandb {attempt} could not start ({_first_line(error)})")

    def _start(
        self, mode: Literal["online", "offline"], project: str, name: str, config: Mapping[str, Any]
    ) -> Any:
        import wandb  # late: 0.7 s, and only rank 0 of a run that logs needs it

        settings = wandb.Settings(init_timeout=INIT_SECONDS, console="off", quiet=True, silent=True)
        return wandb.init(
            project=project,
            name=name,
            id=self.id,
            resume="allow",
            mode=mode,
            dir=str(self._folder),
            config=dict(config),
            settings=settings,
        )

    def log(self, row: Mapping[str, Any]) -> None:
        """Send one row; `row["step"]` is the step, the other keys are values."""
        if self._run is None:
            return
        try:
            self._run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        except Exception as error:
            self._run = None
            self._say(f"wandb stopped logging ({_first_line(error)}); metrics.jsonl goes on")

    def close(self) -> None:
        """Finish the run and say, where it was offline, how to upload it."""
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.finish(quiet=True)
        except Exception as error:
            self._say(f"wandb did not finish ({_first_line(error)}); metrics.jsonl is whole")
        if self.mode == "offline":
            self._say(
                f"wandb was offline; to upload: wandb sync {self._folder}/wandb/offline-run-*-{self.id}"
            )


def fixed_id(folder: Path, name: str) -> str:
    """The run's wandb id: its name and six random digits, drawn once and kept in the run folder for every
    restart.
    """
    path = folder / "wandb_id"
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"
    identifier = f"{readable}-{secrets.token_hex(3)}"
    path.write_text(identifier + "\n", encoding="utf-8")
    return identifier


def _quietness(mode: str) -> int:
    return QUIETEST_LAST.index(mode) if mode in QUIETEST_LAST else 0


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
