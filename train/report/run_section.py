"""The report's last part: what was run, for how long, with which configuration, on what kind of machine."""

from collections.abc import Sequence
from html import escape
from typing import Any

from train.monitor.console import duration
from train.report.facts import without_paths
from train.report.html import section, table
from train.report.run import Run
from train.report.svg import short


def run_section(run: Run, summary: dict[str, Any]) -> str:
    """Stages, times, facts and configurations. `summary` is report.json's content."""
    body = ""
    if summary["stages"]:
        titles = ("stage", "state", "steps", "pages", "text tokens", "time", "loss, first → last")
        body += table(titles, (_stage_row(stage) for stage in summary["stages"]))
    return section("The run", "", body + _recipe_times(run) + _made_with(summary) + _configurations(run))


def _recipe_times(run: Run) -> str:
    timed = [(str(step.get("name")), float(step["seconds"])) for step in run.recipe if step.get("seconds")]
    if not timed:
        return ""
    longest = max(seconds for _, seconds in timed)
    bars = "".join(
        f'<li><span>{escape(name)}</span><i style="--share:{seconds / longest:.3f}"></i>'
        f"<b>{duration(seconds)}</b></li>"
        for name, seconds in timed
    )
    return f'<h3>Time of each step of the recipe</h3><ul class="bars">{bars}</ul>'


def _made_with(summary: dict[str, Any]) -> str:
    speed = summary["tokens_per_second"]
    pairs = [
        ("device", summary["device"]),
        ("machine", summary["machine"]),
        ("text tokens per second", short(speed) if speed else None),
        ("configuration", summary["config_hash"]),
        ("source revision", summary["git_revision"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in summary["versions"].items())),
    ]
    items = "".join(
        f"<div><dt>{name}</dt><dd>{escape(without_paths(str(value)))}</dd></div>"
        for name, value in pairs
        if value
    )
    return f'<dl class="facts">{items}</dl>'


def _configurations(run: Run) -> str:
    found = ""
    for stage in run.stages:
        chosen = f"overrides:\n{stage.overrides}\n\n" if stage.overrides else ""
        if chosen or stage.config_text:
            text = escape(without_paths(chosen + stage.config_text))
            title = f"Configuration of “{escape(stage.name)}”"
            found += f"<details><summary>{title}</summary><pre>{text}</pre></details>"
    return found


def _stage_row(stage: dict[str, Any]) -> Sequence[str]:
    losses = [stage["first_loss"], stage["last_loss"]]
    return (
        stage["name"],
        stage["state"],
        f"{stage['steps']:,}",
        f"{stage['pages']:,}",
        short(stage["tokens"]),
        duration(stage["seconds"]),
        " → ".join("–" if loss is None else f"{loss:.2f}" for loss in losses),
    )
