"""Watches what each step came to: counts those that changed nothing, names what is behind them, and ends a run that no longer
learns. A step that went well costs a few hundred additions on the host; nothing is sent and nothing waited for.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_pipeline.lines import Lines
from parallel.engine import Accepts, Engine
from parallel.topology import environment
from train.config import Config
from train.guard import words
from train.guard.culprits import Culprits, behind_gradient, behind_loss, behind_spike
from train.guard.window import Window
from train.observe.observer import Look
from train.run_folder import BAD_STEPS, keep_until, plain

SERIES = ("loss", "grad_norm")


class Diverged(Exception):
    """Too many steps in a row changed nothing. The message names what is behind the last one and what may help."""

    user_error = True
    same_everywhere = True


class Guard:
    """One run's: `accepts` goes into the engine's step, `values` and `judge` follow it. All ranks hold the same."""

    def __init__(
        self, config: Config, engine: Engine, folder: Path, note: Callable[[str], object], start_step: int = 0
    ) -> None:
        """folder: the run's. note: tells a person something. start_step: rows of bad_steps.jsonl from later steps are dropped."""
        self._config, self._settings, self._engine, self._note = config, config.guard, engine, note
        self._windows = {name: Window(config.guard.window) for name in SERIES}
        self._skipped = self._in_a_row = self._spikes = 0
        self._found: dict[str, float] = {}  # what stands out in the last step, and by how much
        self._always: set[int] = set()  # ranks that are to blame for all steps skipped in a row, as far as this process saw them
        self._lines, self._writes = Lines(folder / BAD_STEPS), environment()[0] == 0
        if self._writes:
            keep_until(self._lines.path, start_step)

    @property
    def accepts(self) -> Accepts | None:
        """What the engine asks before it changes weights; None where spikes are not skipped: then nothing is asked."""
        asks = self._settings.skip_spikes and self._settings.spike_sigmas > 0
        return self._is_no_spike if asks else None

    def values(self, look: Look) -> dict[str, Any]:
        """Takes the step into account; its metrics, by the names of the catalogue."""
        numbers = {"loss": look.output.loss, "grad_norm": look.output.grad_norm}
        stand = {name: self._windows[name].deviations(value) for name, value in numbers.items()}
        self._found = {name: z for name, z in stand.items() if z is not None and self._is_spike(z)}
        for name, value in numbers.items():
            self._windows[name].add(value)
        self._skipped += look.output.skipped
        self._in_a_row = self._in_a_row + 1 if look.output.skipped else 0
        self._spikes += bool(self._found)
        known = {f"spike/{name}": z for name, z in stand.items() if z is not None}
        return {"skipped_total": self._skipped, "spikes_total": self._spikes, **known}

    def judge(self, look: Look) -> None:
        """Tells of a step that went wrong, in one line and in bad_steps.jsonl. Raises Diverged after too many of them in a row,
        on all ranks."""
        if not look.output.skipped and not self._found:
            return
        kind, culprits = self._behind(look)
        said = self._said(look, culprits)
        self._note(said)
        self._write(look, kind, culprits)
        self._always = set(culprits.ranks) & (self._always if self._in_a_row > 1 else set(culprits.ranks))
        if 0 < self._settings.max_skipped <= self._in_a_row:
            advice = words.advice(culprits, sorted(self._always), environment()[1], self._config)
            raise Diverged(words.ended(look.step, self._in_a_row, said, advice, self._config, self._lines.path))

    def restart(self) -> None:
        """What comes now is of another kind, such as a new level of the curriculum: a jump is no spike."""
        for window in self._windows.values():
            window.clear()

    def state(self) -> dict[str, Any]:
        """For a checkpoint; `restore` is its inverse."""
        windows = {name: window.state() for name, window in self._windows.items()}
        return {"skipped": self._skipped, "in_a_row": self._in_a_row, "spikes": self._spikes, "windows": windows}

    def restore(self, state: dict[str, Any]) -> None:
        """Decides from now on as the run that was saved would have."""
        self._skipped, self._in_a_row, self._spikes = state["skipped"], state["in_a_row"], state["spikes"]
        for name, window in self._windows.items():
            window.restore(state["windows"][name])

    def _is_spike(self, deviations: float) -> bool:
        return 0 < self._settings.spike_sigmas < deviations

    def _is_no_spike(self, name: str, value: float) -> bool:
        deviations = self._windows[name].deviations(value)
        return deviations is None or not self._is_spike(deviations)

    def _behind(self, look: Look) -> tuple[str, Culprits]:
        """(kind, who) of a step that went wrong."""
        if self._found:
            return " and ".join(f"{name} spike" for name in self._found), behind_spike(self._engine, look.batches)
        if math.isfinite(look.output.loss):
            return "gradient", behind_gradient(self._engine, look.batches)
        return "loss", behind_loss(self._engine, look.batches)

    def _said(self, look: Look, culprits: Culprits) -> str:
        if not self._found:
            return words.not_finite(look.step, look.output.loss, culprits)
        numbers = {"loss": look.output.loss, "grad_norm": look.output.grad_norm}
        return words.spike(look.step, self._found, numbers, look.output.skipped, culprits)

    def _write(self, look: Look, kind: str, culprits: Culprits) -> None:
        if not self._writes:
            return
        facts = {"step": look.step, "kind": kind, "skipped": look.output.skipped, "skipped_in_a_row": self._in_a_row}
        numbers = {"loss": look.output.loss, "grad_norm": look.output.grad_norm, "deviations": self._found}
        self._lines.append([plain(facts | numbers | culprits.row())])
