"""`python -m train.runs [FOLDER]`: a table of the runs below a folder."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from conf import rules
from conf.command import run
from conf.errors import ConfigError
from train.runs.find import found_runs
from train.runs.state import STATES
from train.runs.table import KEYS, chosen, show

DESCRIPTION = """Lists the runs below a folder, recipes with their stages: how far each came, its last loss and image gain, its newest whole
checkpoint, and where and why it stopped. A run that says it runs is believed as long as its process or its files show it: otherwise it
is lost, and the same command that started it goes on from its newest checkpoint."""
EXAMPLES = (
    "python -m train.runs",
    "python -m train.runs /data/runs state=failed",
    "python -m train.runs sort=loss",
    "python -m train.runs json=true | jq '.[] | select(.state == \"lost\") | .folder'",
)


@dataclass
class RunsConfig:
    """Which runs are listed, and how."""

    folder: str = "runs"  # the first argument
    state: str | None = None  # only runs in this state: running, finished, stopped, failed, lost, unknown
    sort: str = "name"  # "name" | "updated" | "step" | "loss" | "image_gain" | "bytes": smallest first, but for "updated"
    json: bool = False  # a list for programs in place of the table


def check(config: RunsConfig) -> None:
    """Raises ConfigError for words that mean nothing here."""
    faults = [*rules.one_of("sort", config.sort, list(KEYS))]
    if config.state is not None:
        faults += rules.one_of("state", config.state, STATES)
    if not Path(config.folder).is_dir():
        faults.append(f"folder={config.folder}: no such folder; give one that holds runs, for example runs.")
    for fault in faults:
        raise ConfigError(fault)


def main(config: RunsConfig) -> None:
    """Prints them."""
    folder = Path(config.folder)
    rows = chosen(found_runs(folder), config.state, config.sort)
    if config.json:
        print(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    else:
        show(rows, folder)


if __name__ == "__main__":
    sys.exit(run(main, "runs", RunsConfig, None, DESCRIPTION, EXAMPLES, check, positional=("folder",)))
