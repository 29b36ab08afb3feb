"""What the command does once its settings are sound."""

from pathlib import Path

from train.dashboard.build import build
from train.dashboard.check import as_json, compared, logged_in, told
from train.dashboard.config import DashboardConfig, newest_run, stages_of
from train.dashboard.table import page


def dashboard(config: DashboardConfig) -> int:
    """Builds, and writes, uploads or checks; 1 where a check finds something."""
    if config.metrics:
        print(page(), end="")
        return 0
    run = Path(config.run) if config.run else None
    built = build(config.project, config.entity, run.resolve().name if run else None)
    if config.check:
        run = run or newest_run()
        content = built.to_json()
        assert content["workspace"] and content["report"]
        findings = compared(logged_in(stages_of(run)) if run else None)
        print(told(findings, run))
        return 0 if findings.sound else 1
    if config.save:
        print("\n".join(built.save()))
        return 0
    out = Path(config.out) if config.out else (run or Path()) / "dashboard.json"
    as_json(out, built.to_json())
    print(f"{out} written: wandb's workspace and report of {built.of}; save=true uploads them")
    return 0
