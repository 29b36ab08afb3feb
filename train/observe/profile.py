"""A few steps, recorded operation by operation: `profile.steps=[10,12]` writes into the run's `profile/` folder

    steps-10-12.rank-0.json.gz        what ran when, for https://ui.perfetto.dev
    steps-10-12.rank-0.operators.txt  the operators that took longest, and those that took most memory
    steps-10-12.rank-0.memory.pickle  on GPUs every allocation, for https://docs.pytorch.org/memory_viz
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from train.config.profile import ProfileConfig
from train.observe.observer import Look

ROWS = 40  # of a table
EVENTS = 200_000  # allocations and releases that a snapshot keeps


class Profile:
    """Records this process in the steps `config.steps`, first and last included; `say` gets a line when it is done.

    A run that ends or is stopped in the middle of them leaves what it has.
    """

    def __init__(self, config: ProfileConfig, folder: Path, rank: int, say: Callable[[str], object]) -> None:
        self._first, self._last = config.steps
        self._config, self._folder, self._rank, self._say = config, folder / "profile", rank, say
        self._profiler: profile | None = None

    def before(self, step: int) -> None:
        """Begins to record, before data are waited for."""
        if self._rank not in self._config.ranks or self._profiler is not None or not self._first <= step <= self._last:
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
            torch.cuda.memory._record_memory_history(max_entries=EVENTS)
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else a line of its own for each begin and end
        self._profiler = profile(activities=activities, record_shapes=True, profile_memory=True)
        self._profiler.start()

    def after(self, look: Look) -> Mapping[str, Any]:
        """Ends with the last step."""
        if look.step == self._last:
            self._finish()
            self._say(f"steps {self._first} to {self._last} were recorded in {self._folder}, on rank "
                      f"{', '.join(map(str, self._config.ranks))}: open *.json.gz at https://ui.perfetto.dev; *.operators.txt "
                      f"lists what took longest{self._memory_told()}")  # fmt: skip
        return {}

    def close(self) -> None:
        """Writes what a run that ended earlier has."""
        self._finish()

    def _finish(self) -> None:
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        try:
            self._write(profiler)
        except OSError as error:  # a full disk is no reason to stop training
            self._say(f"the profile of steps {self._first} to {self._last} was not written: {error}")

    def _write(self, profiler: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        stem = f"steps-{self._first}-{self._last}.rank-{self._rank}"
        profiler.export_chrome_trace(str(self._folder / f"{stem}.json.gz"))
        (self._folder / f"{stem}.operators.txt").write_text(tables(profiler), encoding="utf-8")
        if torch.cuda.is_available():
            torch.cuda.memory._dump_snapshot(str(self._folder / f"{stem}.memory.pickle"))
            torch.cuda.memory._record_memory_history(enabled=None)

    def _memory_told(self) -> str:
        return ", *.memory.pickle opens at https://docs.pytorch.org/memory_viz" if torch.cuda.is_available() else ""


def tables(profiler: profile) -> str:
    """The operators that took longest, and those that took most memory, by themselves."""
    where = "cuda" if torch.cuda.is_available() else "cpu"
    operators = profiler.key_averages()
    longest, largest = (
        operators.table(sort_by=f"self_{where}_{what}", row_limit=ROWS, max_name_column_width=60)
        for what in ("time_total", "memory_usage")
    )
    return f"By time\n{longest}\n\nBy memory\n{largest}\n"
