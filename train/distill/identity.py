"""Which teacher it was."""

import hashlib
from pathlib import Path


def checkpoint_digest(folder: Path) -> str:
    """What tells a checkpoint from others: of its manifest, which lists the sums of its files."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:16]
