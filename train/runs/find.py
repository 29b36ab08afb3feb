"""Where below a folder there are runs and recipes."""

import os
from collections.abc import Iterator
from pathlib import Path

from train.run_folder import read_json
from train.runs.row import Row, recipe_row, run_row

DEPTH = 4  # folders below the one that was asked for
MARKS = {"status.json", "metrics.jsonl"}  # a folder with one of these is a run's
INSIDE = {"checkpoints", "wandb", "pages", "evaluation"}  # folders of a run or a recipe that hold no runs


def found_runs(folder: Path) -> list[Row]:
    """A row for every run in `folder` and below it; those of a recipe follow its own row."""
    return list(_rows(folder, folder, DEPTH, None))


def _rows(folder: Path, root: Path, depth: int, recipe: str | None) -> Iterator[Row]:
    names, below = _listed(folder)
    name = str(folder.relative_to(root)) if folder != root else folder.resolve().name
    if "recipe.json" in names and recipe is None:
        written = read_json(folder / "recipe.json")
        stages = [row for path in below if depth > 0 for row in _rows(path, root, depth - 1, name)]
        order = [str(step.get("name")) for step in _steps(written)]
        stages.sort(key=lambda row: order.index(row.stage) if row.stage in order else len(order))
        yield recipe_row(folder, name, _steps(written), stages)
        yield from stages
        return
    if MARKS & names:
        yield run_row(folder, name, recipe)
        return
    if depth > 0:
        for path in below:
            yield from _rows(path, root, depth - 1, recipe)


def _listed(folder: Path) -> tuple[set[str], list[Path]]:
    """(names of files, folders that may hold runs); links to folders are not followed, they may lead in circles."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return set(), []
    folders = [Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False)]
    files = {entry.name for entry in found if not entry.is_dir(follow_symlinks=False)}
    return files, sorted(
        path for path in folders if path.name not in INSIDE and not path.name.startswith(".")
    )


def _steps(written: object) -> list[dict]:
    steps = written.get("steps") if isinstance(written, dict) else None
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
