"""Holds together what panels show, what the code can log, and what a run has logged."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from train.dashboard.panels import sections
from train.dashboard.sources import is_logged, names_in_code
from train.monitor.catalogue import CATALOGUE, Metric, metric_of
from train.relay.rows import of_weight
from train.run_folder import WEIGHT_DECOMPOSITION, read_rows

NO_METRICS = {"step", "note"}  # of a row


@dataclass(frozen=True)
class Findings:
    """unlogged: panels of metrics that no code logs. unknown: logged names without an entry. empty: panels without a value in
    this run. shown: panels with one."""

    unlogged: list[Metric]
    unknown: list[str]
    empty: list[Metric]
    shown: int

    @property
    def sound(self) -> bool:
        """Whether nothing is missing on either side."""
        return not self.unlogged and not self.unknown


def logged_in(folders: Iterable[Path]) -> dict[str, bool]:
    """Name → whether it ever had a value, of all metrics in the folders of some stages."""
    found: dict[str, bool] = {}
    for folder in folders:
        weights = [of_weight(row) for row in read_rows(folder / WEIGHT_DECOMPOSITION)]
        for row in [*read_rows(folder / "metrics.jsonl"), *weights]:
            for name, value in row.items():
                if name not in NO_METRICS and not name.startswith("_"):
                    found[name] = found.get(name, False) or value is not None
    return found


def compared(logged: dict[str, bool] | None) -> Findings:
    """logged: as `logged_in`; None without a run."""
    known = names_in_code()
    unlogged = [metric for metric in CATALOGUE if not is_logged(metric.name, known)]
    if logged is None:
        return Findings(unlogged, [], [], 0)
    unknown = sorted(name for name in logged if metric_of(name) is None)
    panels = [panel.metric for own in sections().values() for panel in own]
    empty = [
        metric for metric in panels if not any(has and metric_of(name) is metric for name, has in logged.items())
    ]
    return Findings(unlogged, unknown, empty, len(panels) - len(empty))


def told(findings: Findings, run: Path | None) -> str:
    """The findings for a person."""
    count = sum(map(len, sections().values()))
    lines = [f"{count} panels in {len(sections())} sections: workspace and report build without network"]
    for metric in findings.unlogged:
        lines.append(f"no code logs {metric.name}: take it out of train/monitor/catalogue.py, or log it")
    if run is None:
        return "\n".join([*lines, "no run to compare with: give run=, or train one"])
    lines.append(f"{run}: {findings.shown} panels show something, {len(findings.empty)} would be empty")
    lines += [f"  {metric.name}: {why(metric)}" for metric in findings.empty]
    for name in findings.unknown:
        lines.append(f"{name} is logged but no panel shows it: give it an entry in train/monitor/catalogue.py")
    return "\n".join(lines)


def why(metric: Metric) -> str:
    """Why a run has no value of a metric."""
    return f"it takes {metric.needs}" if metric.needs else "this run has not logged it (yet)"


def as_json(path: Path, content: object) -> None:
    """Writes a dashboard's JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
