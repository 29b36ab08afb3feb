"""`python -m train.report run=runs/smoke`: report.html and report.json of a run, finished or not."""

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from conf.command import run
from train.report import write_report

DESCRIPTION = """Writes one self-contained HTML page about a run, and its figures as report.json: the compression curve with its floors, pages
beside what was read from them, how the model learned, and what the run was made with. An unfinished run is shown as far as it goes."""
EXAMPLES = ("python -m train.report run=runs/smoke",)


@dataclass
class ReportConfig:
    """Which run is shown."""

    run: str = MISSING  # the folder of a recipe's run, or of a single stage's


def main(config: ReportConfig) -> None:
    """Writes the report and says where it is."""
    print(f"{write_report(Path(config.run))} written")


if __name__ == "__main__":
    sys.exit(run(main, "report", ReportConfig, None, DESCRIPTION, EXAMPLES))
