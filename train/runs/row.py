"""One run, or one recipe, as its folder tells it; damaged and half-written files are no reason to say nothing."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError
from parallel import integrity
from train.run_folder import read_json
from train.runs.state import TIMEOUT, silence, state_of
from train.settings import read_settings, section

TAIL = 1 << 20  # bytes at the end of metrics.jsonl that are looked at
WANTED = ("loss", "image_gain", "pages_per_second")


@dataclass(frozen=True)
class Row:
    """recipe: name of the recipe that the run is a stage of. why: where it stopped and why, or what is strange. silent: seconds
    since it last wrote. saved: step of the newest whole checkpoint; "whole" by the sizes of its files. bytes: on disk."""

    name: str
    folder: str
    recipe: str | None
    stage: str
    state: str
    why: str
    step: int | None
    total_steps: int | None
    loss: float | None
    image_gain: float | None
    pages_per_second: float | None
    layout: str
    silent: float
    saved: int | None
    restarts: int
    bytes: int


def run_row(folder: Path, name: str, recipe: str | None) -> Row:
    """Of a stage's folder."""
    told = read_json(folder / "status.json")
    status = told if isinstance(told, dict) else {}
    settings = _settings(folder)
    saved, world, refused = _saved(folder / "checkpoints")
    state, why = state_of(folder, status, _number(section(settings, "run").get("timeout")) or TIMEOUT)
    metrics = _last_metrics(folder / "metrics.jsonl")
    return Row(
        name=name,
        folder=str(folder),
        recipe=recipe,
        stage=str(section(settings, "stage").get("name") or folder.name) if recipe is None else folder.name,
        state=state,
        why=" · ".join(filter(None, (why, refused))),
        step=_whole(status.get("step")) if metrics.get("step") is None else _whole(metrics["step"]),
        total_steps=_whole(status.get("total_steps")) or _whole(section(settings, "stage").get("steps")),
        loss=_number(metrics.get("loss")),
        image_gain=_number(metrics.get("image_gain")),
        pages_per_second=_number(metrics.get("pages_per_second")),
        layout=_layout(section(settings, "parallel"), world),
        silent=silence(folder),
        saved=saved,
        restarts=_whole(status.get("restarts")) or 0,
        bytes=size_of(folder),
    )


def recipe_row(folder: Path, name: str, steps: Sequence[Mapping[str, Any]], stages: Sequence[Row]) -> Row:
    """Of a recipe, whose runs are `stages`."""
    states = [str(step.get("state")) for step in steps]
    done = states.count("done")
    at = next((step for step in steps if step.get("state") in ("running", "interrupted")), None)
    state, why = "finished" if steps and done == len(steps) else "stopped", ""
    if not steps:
        state, why = "unknown", "recipe.json cannot be read"
    elif at is not None:
        own = next((row for row in stages if row.stage == str(at.get("name"))), None)
        began = at.get("state") == "running"
        state = own.state if own and own.state != "finished" else "running" if began else "stopped"
        why = f"at {at.get('name')}" if began else f"interrupted at {at.get('name')}"
    return Row(
        name=name, folder=str(folder), recipe=None, stage="recipe", state=state, why=why, step=done, total_steps=len(steps),
        loss=None, image_gain=None, pages_per_second=None, layout="", silent=min([silence(folder), *(row.silent for row in stages)]),
        saved=None, restarts=sum(row.restarts for row in stages), bytes=size_of(folder),
    )  # fmt: skip


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder; links are not followed."""
    total = 0
    for place, _, files in os.walk(folder, onerror=None):
        for file in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, file)).st_size
    return total


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return read_settings(folder / "config.yaml")
    except UserError:
        return {}


def _saved(root: Path) -> tuple[int | None, int | None, str]:
    """(step of the newest whole checkpoint, processes that wrote it, what is wrong with newer ones)."""
    refused = ""
    for folder in sorted(
        root.glob("step-????????*"), key=lambda path: (len(path.name), path.name), reverse=True
    ):
        digits = folder.name.removeprefix("step-")
        if not digits.isdecimal() or not folder.is_dir():
            continue
        problems = integrity.verify(folder, contents=False)
        if not problems:
            manifest = read_json(folder / integrity.MANIFEST) or {}
            return int(digits), _whole(manifest.get("world_size")), refused
        refused = refused or f"{folder.name} damaged: {problems[0]}"
    return None, None, refused


def _last_metrics(path: Path) -> dict[str, Any]:
    """The last value of each metric that is shown, and the last step."""
    found: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read(TAIL).splitlines()
    except OSError:
        return found
    for line in reversed(lines):
        if all(name in found for name in ("step", *WANTED)):
            break
        missing = [name for name in ("step", *WANTED) if name not in found and f'"{name}"'.encode() in line]
        with suppress(ValueError, RecursionError):
            row = json.loads(line) if missing else None
            found |= {
                name: row[name] for name in missing if isinstance(row, dict) and row.get(name) is not None
            }
    return found


def _layout(parallel: Mapping[str, Any], world: int | None) -> str:
    """ "tp2 pp2 ×8": ways that things are split, and processes in all."""
    short = {"tensor": "tp", "pipeline": "pp", "expert": "ep", "virtual": "vp"}
    parts = [
        f"{letters}{parallel[name]}"
        for name, letters in short.items()
        if (_whole(parallel.get(name)) or 1) > 1
    ]
    return " ".join([*parts, f"×{world}" if world else ""]).strip()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
