"""The training loop: read, step, log; now and then look at held-out pages and save. One screen, in the order it happens."""

import math
import time
from collections import ChainMap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from data_pipeline.identity import BATCH_HASHES
from data_pipeline.stream import Cursor, Stream
from parallel.device import device
from parallel.engine import Engine, StepOutput
from train.config import Config
from train.curriculum import Curriculum
from train.guard.guard import Guard
from train.launch.signals import StopFlag
from train.monitor.monitor import Monitor
from train.observe.observer import Look, Observer
from train.optimizer import learning_rate
from train.weight_decomposition.watch import Watch

# what an objective adds up beside "loss", and what it is divided by
UNITS = {"patch_glyphs": "cells", "token_glyphs": "cells", "divergence": "tokens", "hidden": "tokens", "features": "pages"}
Probe = Callable[[], dict[str, dict[str, float]]]  # source -> {"accuracy", "cross_entropy", "image_gain"} on held-out pages


@dataclass
class Progress:
    """What a run has done so far; a checkpoint holds it whole."""

    step: int = 0
    tokens: int = 0
    pages: int = 0
    seconds: float = 0.0

    def count(self, output: StepOutput, seconds: float) -> None:
        """Adds one step."""
        self.step += 1
        self.tokens += int(output.weights["tokens"])
        self.pages += int(output.counts["samples"])
        self.seconds += seconds


@dataclass
class Run:
    """The parts of one stage, built and ready; `train` moves them."""

    config: Config
    engine: Engine
    stream: Stream
    curriculum: Curriculum
    probe: Probe
    monitor: Monitor
    stop: StopFlag
    guard: Guard
    progress: Progress
    save: Callable[[], object]
    beat: Callable[[], object] = lambda: None  # tells the watchdog that there is progress
    watch: Watch | None = None  # looks at how far weights have moved
    reader: Callable[[int], dict[str, float]] = lambda step: {}  # reads a few held-out pages, of which it gives means
    observers: Sequence[Observer] = ()


def train(run: Run) -> bool:
    """Runs the stage to its last step; True when it got there, False when a signal asked it to stop (state is saved)."""
    stage, progress = run.config.stage, run.progress
    saved_at = progress.step
    while progress.step < stage.steps:
        for observer in run.observers:
            observer.before(progress.step + 1)
        started = time.monotonic()
        rate = learning_rate(run.config.optim, progress.step, stage.steps)
        run.engine.set_learning_rate(rate)
        batches = [batch.to(device()) for batch in run.stream.next_step()]
        waited = time.monotonic() - started
        known = {"batch": run.stream.batch_hash(batches), "samples": sum(batch.count for batch in batches),
                 "vision_tokens": sum(len(batch.layout) for batch in batches)}  # fmt: skip
        output = run.engine.train_step(batches, known, run.guard.accepts)
        seconds = time.monotonic() - started
        progress.count(output, seconds)
        look = Look(progress.step, batches, output, seconds, waited)
        seen = [run.guard.values(look), *(observer.after(look) for observer in run.observers)]
        run.monitor.step(progress.step, ChainMap(step_values(run, output, rate, seconds, waited), *map(dict, seen)))
        run.guard.judge(look)
        run.beat()
        if _due(progress.step, stage.evaluate_every, stage.steps):
            evaluate(run)
            run.beat()
        if run.watch and _due(progress.step, stage.weight_decomposition.every, stage.steps):
            run.monitor.weight_decomposition(progress.step, run.watch.rows())
            run.beat()
        if _due(progress.step, stage.checkpoint_every, stage.steps):
            run.save()
            run.beat()
            saved_at = progress.step
        if run.stop.requested_anywhere():
            break
    if saved_at < progress.step:
        run.save()
    return progress.step >= stage.steps


def evaluate(run: Run) -> None:
    """Looks at held-out pages, logs what the model reads there, and lets the curriculum move on."""
    with run.engine.stored_weights():
        found = run.probe()
        read = run.reader(run.progress.step)
    values: dict[str, Any] = read | {f"{metric}/{source}": value for source, row in found.items() for metric, value in row.items()}
    with_pages = [row["image_gain"] for row in found.values() if not math.isnan(row["image_gain"])]
    values["image_gain"] = with_pages[0] if with_pages else math.nan  # of the first, easiest source
    run.monitor.evaluation(run.progress.step, values)
    if run.curriculum.observe(run.progress.step, {source: row["accuracy"] for source, row in found.items()}):
        run.stream.set_weights(run.curriculum.shares())
        run.guard.restart()
        run.monitor.note(f"curriculum: level {run.curriculum.level} adds {', '.join(run.curriculum.newest())}")


def step_values(run: Run, output: StepOutput, rate: float, seconds: float, waited: float) -> dict[str, Any]:
    """One line of metrics.jsonl: "loss" and the divergence from a teacher in nats a text token, glyph maps in nats a cell,
    "objective" what was minimised, "batch" which samples in which order, whatever the layout."""
    values: dict[str, Any] = {
        "loss": output.sums["loss"] / max(output.weights["tokens"], 1.0),
        "objective": output.loss,
        "grad_norm": output.grad_norm,
        "lr": rate,
        "skipped": output.skipped,
    }
    for name, unit in UNITS.items():
        if name in output.sums:
            values[name] = output.sums[name] / max(output.weights[unit], 1.0)
    return values | {
        "tokens": run.progress.tokens,
        "pages": run.progress.pages,
        "seconds": seconds,
        "data_wait": waited,
        "tokens_per_second": output.weights["tokens"] / seconds,
        "pages_per_second": output.counts["samples"] / seconds,
        "level": run.curriculum.level,
        "batch": int(output.counts["batch"]) % BATCH_HASHES,
    }


def state_of(run: Run) -> dict[str, Any]:
    """What a checkpoint keeps beside the tensors; `restore` is its inverse."""
    return {
        "progress": vars(run.progress).copy(),
        "cursor": run.stream.cursor.to_json(),
        "curriculum": run.curriculum.state(),
        "guard": run.guard.state(),
    }


def restore(run: Run, state: dict[str, Any]) -> None:
    """Continues where `state` was saved: counters, curriculum, place in the data."""
    vars(run.progress).update(state["progress"])
    run.curriculum.restore(state["curriculum"])
    if "guard" in state:  # not in checkpoints of former versions
        run.guard.restore(state["guard"])
    run.stream.seek(Cursor.from_json(state["cursor"]))


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (every > 0 and step % every == 0)
