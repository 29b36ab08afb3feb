"""Checkpoints that hold what was added to a model, and name the checkpoint that holds the model itself.

Where a checkpoint is told apart from others by its files' checksums: added factors fit one base alone, and on another they give
a model that nobody trained.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parallel.errors import CheckpointError
from parallel.integrity import MANIFEST

BASE = "base"  # in a checkpoint's facts


@dataclass(frozen=True)
class Base:
    """A checkpoint folder, and what its files were when something was added to it."""

    folder: Path
    digest: str

    @classmethod
    def of(cls, folder: Path) -> "Base":
        """The checkpoint in `folder` as it is now. Raises CheckpointError where there is none."""
        return cls(folder, digest_of(folder))

    def facts(self, root: Path) -> dict[str, Any]:
        """For a checkpoint in `root`; the place is relative to that, so that a tree of runs may move as a whole."""
        return {BASE: {"folder": os.path.relpath(self.folder, root), "digest": self.digest}}


def base_of(folder: Path, facts: Mapping[str, Any]) -> Path | None:
    """Where the rest of a checkpoint is; None for one that is complete.

    Raises CheckpointError where nothing is there any more, or another checkpoint.
    """
    if BASE not in facts:
        return None
    told = facts[BASE]
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ("folder", "digest")):
        raise CheckpointError(f"{folder}: what it says of the checkpoint that it was added to cannot be read.")
    place = Path(os.path.normpath(folder.parent / told["folder"]))
    where = f"{folder} holds what was added to {place}"
    if not (place / MANIFEST).is_file():
        raise CheckpointError(
            f"{where}, which is not there. Put that checkpoint back, or save runs whole: stage.save_base=true."
        )
    if digest_of(place) != told["digest"]:
        raise CheckpointError(
            f"{where}, and another checkpoint is there now: added weights fit the one they were trained on alone. Put that one back."
        )
    return place


def digest_of(folder: Path) -> str:
    """SHA-256 of the names, sizes and checksums of a checkpoint's files."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder} is no checkpoint: {error}") from error
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
