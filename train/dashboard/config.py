"""The settings of `python -m train.dashboard`."""

from dataclasses import dataclass
from pathlib import Path

from conf.errors import ConfigError


@dataclass
class DashboardConfig:
    """What the dashboard is of, and what is done with it."""

    run: str | None = None  # folder of a run or recipe; without it the dashboard is of the whole project
    project: str = "microfiche"
    entity: str = ""  # whose project it is; "" for that of the login
    out: str | None = None  # where the JSON goes; RUN/dashboard.json, or dashboard.json
    save: bool = False  # upload both to wandb
    check: bool = False  # hold panels, code and a run's metrics together instead; the newest run in runs/ without run=
    metrics: bool = False  # print docs/metrics.md instead


def check(config: DashboardConfig) -> None:
    """Raises ConfigError for a folder that is none, and for several things at once."""
    if config.run is not None and not Path(config.run).is_dir():
        raise ConfigError(f"run={config.run}: no such folder; give the folder of a run, for example run=runs/smoke")
    if sum((config.save, config.check, config.metrics)) > 1:
        raise ConfigError("save, check and metrics exclude each other: choose one of them.")


def stages_of(run: Path) -> list[Path]:
    """The folder of a stage, or those of a recipe's stages."""
    found = [run / "metrics.jsonl"] if (run / "metrics.jsonl").exists() else sorted(run.glob("*/metrics.jsonl"))
    return [path.parent for path in found]


def newest_run(folder: Path = Path("runs")) -> Path | None:
    """The run that wrote metrics last, of those in `folder` and of the stages of recipes there."""
    found = [*folder.glob("*/metrics.jsonl"), *folder.glob("*/*/metrics.jsonl")]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None
