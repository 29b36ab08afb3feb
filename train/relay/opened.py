"""The wandb run of a run folder: one for all its processes, found again by an id that is kept in the folder."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from data_pipeline.errors import UserError
from train.relay.earlier import put_away
from train.report.facts import git_revision
from train.run_folder import read_json
from train.settings import read_settings

INIT_SECONDS = 15  # wandb's own default keeps a run without network waiting for 90 s
GROUPS = ("experiment", "model", "data", "parallel", "engine", "optim", "tune", "quantize", "prune", "distill", "stage")
LONGEST_TAG = 64  # characters; wandb refuses longer ones


def opened(folder: Path, identifier: str, project: str, mode: Literal["online", "offline"]) -> Any:
    """The wandb run, with tokens on its axis. Raises whatever wandb raises when it cannot start."""
    import wandb

    settings = wandb.Settings(
        init_timeout=INIT_SECONDS, console="off", quiet=True, silent=True, disable_git=True, disable_code=True,
        x_stats_pid=os.getppid(),
    )  # fmt: skip
    run = wandb.init(
        project=project, id=identifier, resume="allow", mode=mode, dir=str(folder), settings=settings, **described(folder)
    )
    run.define_metric("tokens")
    run.define_metric("*", step_metric="tokens")
    own = Path(run.dir).parent
    put_away(folder, identifier, own)
    _show_as_one(folder, own / f"run-{identifier}.wandb")
    return run


def described(folder: Path) -> dict[str, Any]:
    """How wandb files the run: name, configuration, the recipe as its group, the stage as its kind of job."""
    config = _config(folder)
    stage = config.get("stage") or {}
    recipe = read_json(folder.parent / "recipe.json")
    grouped = isinstance(recipe, dict)
    name = str((config.get("run") or {}).get("name") or folder.name)
    start, revision = stage.get("start_from"), git_revision()
    notes = [f"starts from {start}" if start else "", f"source revision {revision}" if revision else ""]
    return {
        "name": f"{folder.parent.resolve().name}/{name}" if grouped else name,
        "config": config,
        "group": folder.parent.resolve().name if grouped else None,
        "job_type": stage.get("name"),
        "tags": tags_of(config.get("overrides") or []),
        "notes": "\n".join(filter(None, notes)) or None,
    }


def tags_of(overrides: list[str]) -> list[str]:
    """The choices of groups that were typed, such as `tune=dora`."""
    return [override for override in overrides if override.partition("=")[0] in GROUPS and len(override) <= LONGEST_TAG]


def sync_line(folder: Path, run: Any) -> str:
    """What uploads an offline run."""
    return f"wandb sync {folder / 'wandb' / Path(run.dir).parent.name}"


def _config(folder: Path) -> dict[str, Any]:
    try:
        return read_settings(folder / "config.yaml")
    except UserError:
        return {}


def _show_as_one(folder: Path, file: Path) -> None:
    """A link in the run folder, by which `wandb leet FOLDER` finds wandb's file."""
    with suppress(OSError):  # not every file system has links
        link = folder / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve().relative_to(folder.resolve()))
