"""`python -m train.dashboard run=runs/X`: wandb's workspace and report of a run or project as JSON, or uploaded, or checked."""

import sys

from conf.command import run
from train.dashboard.config import DashboardConfig, check

DESCRIPTION = """Builds a wandb workspace and a report from the catalogue of metrics (train/monitor/catalogue.py), without network, and
writes both as JSON; save=true uploads them. check=true holds panels, code and the metrics of a run together: it lists the panels
that would be empty and why, and ends with 1 where a panel shows what no code logs, or where a run logged what no panel shows.
--save, --check and --metrics are short for save=true, check=true and metrics=true."""
EXAMPLES = (
    "python -m train.dashboard run=runs/pretrain",
    "python -m train.dashboard project=microfiche --save",
    "python -m train.dashboard run=runs/smoke --check",
    "python -m train.dashboard --metrics > docs/metrics.md",
)
FLAGS = ("--save", "--check", "--metrics")


def main(config: DashboardConfig) -> int:
    """0 when all is well."""
    from train.dashboard.command import dashboard

    return dashboard(config)


if __name__ == "__main__":
    given = [f"{word.removeprefix('--')}=true" if word in FLAGS else word for word in sys.argv[1:]]
    sys.exit(run(main, "dashboard", DashboardConfig, given, DESCRIPTION, EXAMPLES, check))
