"""The settings of `python -m train.weight_decomposition`. Loads no torch."""

from dataclasses import dataclass, field
from pathlib import Path

from conf import rules
from conf.errors import ConfigError
from train.report.decomposition import movements_of
from train.report.run import read_run


@dataclass
class FigureConfig:
    """What is drawn, and where to."""

    runs: list[str] = field(
        default_factory=list
    )  # runs or recipes whose rows are drawn beside each other; [] for the controlled comparison
    seeds: int = 3  # of the controlled comparison
    out: str = "runs/weight_decomposition"  # folder of figure.png and figure.json


def check(config: FigureConfig) -> None:
    """Raises ConfigError for impossible values and for runs that never looked, UserError for folders that are none."""
    for fault in rules.at_least("seeds", config.seeds, 1):
        raise ConfigError(fault)
    for name in config.runs:
        if not movements_of(read_run(Path(name))):
            raise ConfigError(
                f"runs: {name} has not looked at its weights (no weight_decomposition.jsonl with a row). Train with "
                "stage.weight_decomposition.every=50, or leave the run out."
            )
    if Path(config.out).exists() and not Path(config.out).is_dir():
        raise ConfigError(f"out={config.out}: is a file; choose a folder.")
