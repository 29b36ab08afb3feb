"""Reads a run folder, finished or not, into plain Python: what stages there are, what they logged, what was
evaluated.

Two kinds of folder are understood: a recipe's (one subfolder a stage, recipe.json, evaluation/) and a
single stage's. Anything missing is named in `Run.missing` with the command that would make it; nothing here
fails on an unfinished run.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError
from data_pipeline.small_file import read_small
from train.run_folder import read_json, read_rows
from train.settings import LARGEST, read_settings

EVALUATION = "evaluation"  # folder of what `python -m train.evaluate` writes, below the run's or the recipe's
TAKES_OFF = 0.5  # nats of image gain from which a model is said to look at its pages


@dataclass
class Stage:
    """One stage as its folder tells it. `steps` are the rows of optimiser steps, `evaluations` the held-out
    ones.
    """

    name: str
    folder: Path
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    status: dict[str, Any]
    config: dict[str, Any]
    config_text: str
    overrides: str

    @property
    def pages(self) -> int:
        """Pages seen in this stage."""
        return int(self.steps[-1].get("pages") or 0) if self.steps else 0

    @property
    def seconds(self) -> float:
        """Time in training steps: without evaluation, saving and starting."""
        return float(sum(row.get("seconds") or 0.0 for row in self.steps))

    def place(self, step: int) -> tuple[float, float]:
        """(pages, seconds) since this stage began, at the end of `step`."""
        pages, seconds = 0.0, 0.0
        for row in self.steps:
            if row["step"] > step:
                break
            pages, seconds = float(row.get("pages") or pages), seconds + float(row.get("seconds") or 0.0)
        return pages, seconds

    def summary(self) -> dict[str, Any]:
        """The stage's entry in report.json; `last_loss` is the mean of the last 20 steps (one is too noisy).

        Losses are nats a text token; glyph-map losses are not in them.
        """
        losses = [row["loss"] for row in self.steps if row.get("loss") is not None]
        tail = losses[-20:]
        return {
            "name": self.name,
            "state": self.status.get("state", "not started" if not self.steps else "unknown"),
            "steps": self.steps[-1]["step"] if self.steps else 0,
            "tokens": int(self.steps[-1].get("tokens") or 0) if self.steps else 0,
            "pages": self.pages,
            "seconds": round(self.seconds, 1),
            "first_loss": losses[0] if losses else None,
            "last_loss": sum(tail) / len(tail) if tail else None,
        }


@dataclass
class Run:
    """Everything the report is made from."""

    folder: Path
    name: str
    stages: list[Stage]
    recipe: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    missing: list[str] = field(default_factory=list)

    def offsets(self) -> Iterator[tuple[Stage, float, float]]:
        """Each stage with the pages and seconds that came before it."""
        pages, seconds = 0.0, 0.0
        for stage in self.stages:
            yield stage, pages, seconds
            pages, seconds = pages + stage.pages, seconds + stage.seconds

    def takes_off(self) -> dict[str, float] | None:
        """The first held-out look with an image gain of at least TAKES_OFF: pages, seconds, image_gain; None
        if never.
        """
        for stage, pages, seconds in self.offsets():
            for row in stage.evaluations:
                if (row.get("image_gain") or 0.0) >= TAKES_OFF:
                    own_pages, own_seconds = stage.place(row["step"])
                    return {
                        "pages": pages + own_pages,
                        "seconds": seconds + own_seconds,
                        "image_gain": row["image_gain"],
                    }
        return None


def read_run(folder: Path) -> Run:
    """The run in `folder`. Raises UserError where the folder is not one of a run."""
    if not folder.is_dir():
        raise UserError(f"run={folder}: no such folder; give the folder of a run, for example run=runs/smoke")
    recipe = read_json(folder / "recipe.json") or {}
    steps = [step for step in recipe.get("steps", []) if isinstance(step, dict)]
    if _is_stage(folder):
        stages = [read_stage(folder)]
    else:
        stages = [read_stage(path) for path in sorted(folder.iterdir()) if path.is_dir() and _is_stage(path)]
        order = {str(step.get("name")): index for index, step in enumerate(steps)}
        stages.sort(key=lambda stage: order.get(stage.name, len(order)))
    evaluation = read_json(folder / EVALUATION / "metrics.json")
    if not stages and not steps and evaluation is None:
        raise UserError(
            f"run={folder}: holds no run (no metrics.jsonl, recipe.json or evaluation/metrics.json, here or one level below); "
            "give the folder that `python -m train` or `python -m train.recipe` wrote"
        )
    run = Run(folder, str(recipe.get("name") or folder.resolve().name), stages, steps, evaluation)
    run.missing = list(_missing(run))
    return run


def read_stage(folder: Path) -> Stage:
    """One stage's folder."""
    rows = read_rows(folder / "metrics.jsonl")
    try:
        config = read_settings(folder / "config.yaml")
    except UserError:
        config = {}
    return Stage(
        name=folder.resolve().name,
        folder=folder,
        steps=[row for row in rows if "loss" in row],
        evaluations=[row for row in rows if any(key.startswith(("image_gain", "accuracy/")) for key in row)],
        notes=[row for row in rows if "note" in row],
        status=read_json(folder / "status.json") or {},
        config=config,
        config_text=_text(folder / "config.yaml"),
        overrides=_text(folder / "overrides.txt").strip(),
    )


def _is_stage(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("metrics.jsonl", "status.json"))


def _missing(run: Run) -> Iterator[str]:
    for step in run.recipe:
        if step.get("state") not in ("done", "finished", None) and step.get("name") not in (
            "evaluate",
            "report",
        ):
            yield f"The recipe's step “{step.get('name')}” is not done (state: {step.get('state')})."
    if not run.stages:
        yield "No stage has begun to train."
    for stage in run.stages:
        state = stage.status.get("state")
        if not stage.steps:
            yield f"The stage “{stage.name}” has logged no step yet."
        elif state not in (None, "done", "finished"):
            yield f"The stage “{stage.name}” is not finished (state: {state}, step {stage.steps[-1]['step']})."
    if run.evaluation is None or not run.evaluation.get("curve"):
        yield "There is no evaluation yet, so no compression curve and no pages to show: run `python -m train.evaluate`."


def _text(path: Path) -> str:
    try:
        return read_small(path, LARGEST).decode("utf-8", errors="replace")
    except OSError:
        return ""
