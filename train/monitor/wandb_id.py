"""The id under which wandb knows a run, through all its restarts."""

import re
import secrets
from pathlib import Path

WANDB_ID = "wandb_id"


def fixed_id(folder: Path, name: str) -> str:
    """The run's wandb id: its name and six random digits, drawn once and kept in the run folder for every restart."""
    path = folder / WANDB_ID
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"
    identifier = f"{readable}-{secrets.token_hex(3)}"
    path.write_text(identifier + "\n", encoding="utf-8")
    return identifier
