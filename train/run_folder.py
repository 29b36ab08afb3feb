"""The files of a run folder: JSON that is never half written, and the rows of metrics.jsonl.

runs/<name>/ of a recipe holds recipe.json, evaluation/, report.html, report.json and one folder a stage;
a stage's folder holds config.yaml, overrides.txt, metrics.jsonl (the truth), status.json and checkpoints/, and
weight_decomposition.jsonl and checksums.jsonl where they were asked for.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_pipeline.small_file import read_small_json

BAD_STEPS = "bad_steps.jsonl"  # a row for each step that was skipped or stood out
CHECKSUMS = "checksums.jsonl"  # a row for each step that was summed up
CAUSE = "failed_rank.json"  # the ending of another rank than 0, which sees of it only that it is gone
WEIGHT_DECOMPOSITION = "weight_decomposition.jsonl"  # a row for each weight and look


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl, in order; [] where there is no file. A half-written last line is
    left out.
    """
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows


def keep_until(path: Path, step: int) -> None:
    """Drop from metrics.jsonl every line of a later step (all of them for step 0), and any line that is not
    whole.
    """
    if path.exists():
        kept = [row for row in read_rows(path) if step > 0 and row["step"] <= step]
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def plain(value: Any) -> Any:
    """`value` as strict JSON knows it: tensors and numpy scalars become numbers, nan and infinities become
    null.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if hasattr(value, "item"):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def read_json(path: Path) -> Any | None:
    """The parsed file, or None where it is missing or not JSON."""
    try:
        return read_small_json(path)
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write through a temporary file beside it, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` (absent or empty) when all went well, and is gone otherwise; so is what a
    killed process left of one.
    """
    working = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        for old in target.parent.glob(f".{target.name}.tmp-*"):
            shutil.rmtree(old, ignore_errors=True)
        working.mkdir(parents=True)
        yield working
        if target.exists():
            target.rmdir()
        working.rename(target)
    finally:
        shutil.rmtree(working, ignore_errors=True)
