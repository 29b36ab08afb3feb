"""What a run tells while it runs: `metrics.jsonl` (the truth), `status.json`, one calm console line, and
wandb if it will.

Order of trust: a line is in metrics.jsonl before anything else hears of it, and nothing that happens to the
console or to wandb can stop a run or change that file; while the disk is full its lines wait in memory. Only
rank 0 writes; on the other ranks every method does nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from data_pipeline.lines import Lines
from train.launch.signals import StopFlag
from train.monitor.console import ConsoleLine
from train.monitor.samples import forget_after
from train.monitor.status import STATUS, Status, ending
from train.monitor.wandb_logger import WandbLogger
from train.run_folder import WEIGHT_DECOMPOSITION, keep_until, plain


class LoggerSettings(Protocol):
    """The part of the configuration (group `logger`) that the monitor reads."""

    wandb: str  # "online", "offline" or "disabled"
    project: str
    console_every: int


class Monitor:
    """Writes what one stage does into its run folder.

    `start_step` is the step the stage resumes from (0 for a fresh start): later lines of metrics.jsonl belong
    to work that was lost with the interrupted process and will be done again, so they are removed; a
    half-written last line too. `anew`: what is in the folder is another run's, so wandb gets another one.
    """

    def __init__(
        self,
        run_folder: Path,
        logger: LoggerSettings,
        total_steps: int,
        rank: int = 0,
        *,
        start_step: int = 0,
        name: str | None = None,
        anew: bool = False,
        console: Console | None = None,
    ) -> None:
        self.folder = run_folder
        self.active = rank == 0
        self.total_steps = total_steps
        self._last_step = start_step
        if not self.active:
            return
        run_folder.mkdir(parents=True, exist_ok=True)
        self._name = name or run_folder.name
        self._console = ConsoleLine(self._name, total_steps, logger.console_every, console)
        self._status = Status(run_folder, self._name, total_steps, start_step)
        for file in ("metrics.jsonl", WEIGHT_DECOMPOSITION):
            keep_until(run_folder / file, start_step)
        forget_after(run_folder, start_step)
        self._metrics = Lines(run_folder / "metrics.jsonl", self._console.say)
        self._weights = Lines(run_folder / WEIGHT_DECOMPOSITION, self._console.say)
        self._closed, self._hurried = False, False
        self._wandb = WandbLogger(
            run_folder, logger.wandb, logger.project, self._name, self._console.say, anew
        )

    @property
    def wandb_id(self) -> str | None:
        """The id under which wandb knows this run, for checkpoints; None where wandb is disabled."""
        return self._wandb.id if self.active else None

    def step(self, step: int, values: Mapping[str, Any]) -> None:
        """One optimiser step is done. `values["pages"]`, when given, counts pages since the stage began."""
        if not self.active:
            return
        self._write(step, values)
        self._console.step(step, values)

    def evaluation(self, step: int, values: Mapping[str, Any]) -> None:
        """A held-out measurement taken after `step` (keys: image_gain, accuracy/<source>,
        cross_entropy/<source>).
        """
        if not self.active:
            return
        self._console.evaluation(values)
        self._write(step, values)

    def weight_decomposition(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """How far each of some weights has moved after `step` (keys: layer, rows, magnitude, direction, correlation)."""
        if not self.active:
            return
        self._weights.append({"step": step} | plain(row) for row in rows)

    def note(self, text: str) -> None:
        """A thing worth telling once (a fallback, a new curriculum level): console and metrics.jsonl."""
        if not self.active:
            return
        self._append({"step": self._last_step, "note": text})
        self._console.say(text)

    def status(self, state: str, **fields: Any) -> None:
        """Replace status.json in one motion (see `Status`); fields given earlier stay."""
        if not self.active:
            return
        try:
            self._status.write(state, self._last_step, fields)
        except OSError as error:  # it is written again with the next save
            self._console.say(f"{self.folder / STATUS} cannot be written ({error.strerror}): it is out of date")
        self._metrics.sync()

    def saved(self, step: int) -> None:
        """The checkpoint of `step` is whole."""
        self.status("running", saved_step=step)

    def ended(self, finished: bool, stop: StopFlag) -> None:
        """All is saved, after the last step or because of a signal; tells how long it took from the signal to here."""
        if finished:
            self.status("finished")
        elif stop.signal is not None:
            self._hurried = True
            self.note(f"{stop.signal.name} at step {self._last_step}: saved in {stop.age:.1f} s, stopped")
            self.status("stopped", signal=stop.signal.name, saved_seconds=round(stop.age, 2))

    def failed(self, error: BaseException) -> None:
        """The run ends with `error`."""
        self.status(**ending(error))

    def close(self) -> None:
        """Close the file and wandb; prints the `wandb sync` line once where wandb was offline."""
        if not self.active or self._closed:
            return
        self._closed = True
        self._metrics.close()
        self._weights.close()
        self._wandb.close(self._hurried)

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        self._last_step = step
        self._append({"step": step} | plain(values))

    def _append(self, row: Mapping[str, Any]) -> None:
        self._metrics.append([row])
