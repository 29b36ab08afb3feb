"""What wandb has been given before, by earlier processes of the same run.

Offline, every process of a run leaves a folder `wandb/offline-run-TIME-ID`. `wandb sync` of several moves steps that were done twice
to later ones: after a folder with steps 1 to 7, steps 3 to 19 arrive as 8 to 24. So a run that starts again writes one folder with all its steps, from metrics.jsonl, and moves those before it
to `wandb/earlier/`. What was uploaded stays uploaded: the new folder begins behind it.
"""

import json
import subprocess
import sys
from pathlib import Path

EARLIER = "earlier"
SYNCED = ".synced"  # what `wandb sync` puts beside a file that it has uploaded


def uploaded_until(folder: Path, identifier: str) -> int:
    """The last step of the run in `folder` that wandb's server has been given; 0 for none."""
    online = (folder / "wandb").glob(f"run-*-{identifier}/run-{identifier}.wandb")
    synced = [
        Path(str(mark).removesuffix(SYNCED))
        for mark in (folder / "wandb").glob(f"offline-run-*-{identifier}/*.wandb{SYNCED}")
    ]
    return max(map(last_step, [*online, *synced]), default=0)


def last_step(file: Path) -> int:
    """The last step in one of wandb's files, as wandb's own reader finds it; 0 for a file that has none."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(file)]
    told = subprocess.run(reader, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    try:
        return int(json.loads(told.stdout)["summary"]["_step"])
    except (ValueError, KeyError, TypeError):
        return 0


def put_away(folder: Path, identifier: str, current: Path) -> None:
    """Moves the offline folders of this run that were not uploaded, but for `current`, to wandb/earlier."""
    for old in sorted((folder / "wandb").glob(f"offline-run-*-{identifier}")):
        if old.resolve() != current.resolve() and not list(old.glob(f"*{SYNCED}")):
            (folder / "wandb" / EARLIER).mkdir(exist_ok=True)
            old.rename(folder / "wandb" / EARLIER / old.name)
