"""How far a recipe has come: `recipe.json` in its folder, from which the same command goes on."""

import time
from pathlib import Path
from typing import Any

from conf.errors import ConfigError
from train.recipe.step import Step
from train.run_folder import read_json, write_json

SHOWN = 5  # differences that a message lists


class Ledger:
    """The state of each step: "waiting", "running" (also after a kill), "interrupted" or "done"; its seconds,
    output and settings.

    Only the process with `writes` changes the file; the others keep the same account in memory.
    """

    def __init__(self, folder: Path, name: str, steps: list[Step], writes: bool) -> None:
        self.path, self.name, self.writes = folder / "recipe.json", name, writes
        before = read_json(self.path) or {}
        known = {
            entry["name"]: entry
            for entry in before.get("steps", [])
            if isinstance(entry, dict) and "name" in entry
        }
        fresh = {step.name: {"name": step.name, "state": "waiting", "seconds": 0.0} for step in steps}
        self.entries: dict[str, dict[str, Any]] = (
            fresh | known
        )  # steps that this call leaves out are kept, too
        self._started = 0.0

    def is_done(self, step: Step) -> bool:
        """Whether this step need not run. The report is written anew each time: it costs a second and tells
        of all the others.
        """
        return self.entries[step.name]["state"] == "done" and step.name != "report"

    def is_begun(self, step: Step) -> bool:
        """Whether this step was interrupted, by a signal, an error or a kill, and goes on."""
        return self.entries[step.name]["state"] in ("running", "interrupted")

    def seconds(self, step: Step) -> float:
        """What this step has taken so far, over all calls; a killed call counts nothing."""
        return float(self.entries[step.name]["seconds"])

    def differences(self, step: Step) -> list[str]:
        """`name: before → now` for each setting that changed since this step began."""
        entry, now = self.entries[step.name], step.settings()
        before = entry.get("settings")
        if before is None or entry["state"] == "waiting":
            return []
        names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        return [f"{name}: {before.get(name)} → {now.get(name)}" for name in names]

    def check(self, steps: list[Step], restart: bool) -> list[Step]:
        """The steps to do again because the settings of one changed: it and all that follow; [] when none
        did.

        Raises ConfigError, telling what differs, unless `restart`.
        """
        for index, step in enumerate(steps):
            if changed := self.differences(step):
                if restart:
                    return steps[index:]
                shown = "\n  ".join(
                    [
                        *changed[:SHOWN],
                        *([f"and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []),
                    ]
                )
                raise ConfigError(
                    f"step {step.name} of {self.path} has run with other settings:\n  {shown}\n"
                    f"Choose restart=true to do it and the later steps again, or name={self.name}_2 to keep both."
                )
        return []

    def forget(self, step: Step) -> None:
        """As if this step had never run."""
        self.entries[step.name] = {"name": step.name, "state": "waiting", "seconds": 0.0}
        self._write()

    def begin(self, step: Step) -> None:
        """Notes that this step runs now, and with what."""
        self._started = time.monotonic()
        self.entries[step.name] |= {
            "state": "running",
            "output": str(step.output),
            "settings": step.settings(),
        }
        self._write()

    def end(self, step: Step, state: str) -> None:
        """Notes how this step ended."""
        self.entries[step.name] |= {
            "state": state,
            "seconds": round(self.seconds(step) + time.monotonic() - self._started, 1),
        }
        self._write()

    def _write(self) -> None:
        if self.writes:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {"name": self.name, "steps": list(self.entries.values())})
