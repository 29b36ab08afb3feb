"""Dashboards show what runs log: catalogue, code, panels and docs/metrics.md hold together, without network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conf.errors import ConfigError
from data_pipeline.errors import UserError
from train.dashboard.build import build
from train.dashboard.check import compared, logged_in
from train.dashboard.command import dashboard
from train.dashboard.config import DashboardConfig, check, newest_run
from train.dashboard.sources import is_logged, names_in
from train.dashboard.table import page
from train.monitor.catalogue import CATALOGUE, Metric

REPOSITORY = Path(__file__).parents[3]


def run_of(folder: Path, *rows: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_page_of_metrics_is_current() -> None:
    told = "docs/metrics.md is out of date: python -m train.dashboard --metrics > docs/metrics.md"
    assert (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8") == page(), told


def test_workspace_and_report_show_every_metric_over_tokens_in_the_order_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    content = build("microfiche", "", "pretrain").to_json()
    parts = content["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    assert [part["name"] for part in parts] == list(dict.fromkeys(metric.section for metric in CATALOGUE))
    plots = [panel["config"] for part in parts for panel in part["panels"] if panel["viewType"] == "Run History Line Plot"]
    assert {plot["xAxis"] for plot in plots} == {"tokens"}
    titles = [plot["chartTitle"] for plot in plots]
    assert len(titles) == len(CATALOGUE) - 1, "tokens are the axis"
    [family] = [plot for plot in plots if plot["chartTitle"] == "expert_load"]
    assert family["metricRegex"] == "^expert_load/.+$"
    assert json.dumps(content["workspace"]).count('"samples"') and json.dumps(content["report"]).count('"samples"')
    told = json.dumps(content["report"])
    assert all(f'"chartTitle": "{title}"' in told for title in titles)


def test_a_panel_that_no_code_logs_and_a_metric_that_no_panel_shows_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run", {"step": 1, "loss": 2.0, "grad_norm": None, "nobody_knows": None}, {"step": 1, "note": "x"})
    findings = compared(logged_in([run]))
    assert findings.unknown == ["nobody_knows"] and not findings.sound and not findings.unlogged
    names = {metric.name for metric in findings.empty}
    assert "loss" not in names and {"grad_norm", "memory/peak", "expert_load/*"} <= names
    monkeypatch.setattr("train.dashboard.check.CATALOGUE", (*CATALOGUE, Metric("never_logged", "", "Loss", "")))
    assert [metric.name for metric in compared(None).unlogged] == ["never_logged"]


def test_names_of_metrics_are_found_in_code() -> None:
    known = frozenset(names_in('a = {"loss": 1, f"spike/{name}": 2, f"{metric}/{source}": 3, f"weight_{part}/{layer}": 4}\n"a text"'))
    assert {"loss", "spike/*", "weight_*/*"} == {name for name in known if name in ("loss", "spike/*", "weight_*/*", "*/*", "a text")}
    assert all(is_logged(name, known) for name in ("loss", "loss/*", "spike/loss", "weight_magnitude/*"))
    assert not any(is_logged(name, known) for name in ("los", "accuracy/*", "spikes_total"))


def test_what_is_uploaded_needs_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(UserError, match="wandb login"):
        build("microfiche", "", None).save()


def test_the_command_checks_a_run_and_writes_json(tmp_path: Path) -> None:
    """One process for the check that fails; the newest run is found, in a recipe, too."""
    run = run_of(tmp_path / "runs" / "recipe" / "pretrain", {"step": 1, "nobody_knows": 1.0})
    run_of(tmp_path / "runs" / "old", {"step": 1, "loss": 1.0})
    newest = (run / "metrics.jsonl").stat().st_mtime + 9
    os.utime(run / "metrics.jsonl", (newest, newest))
    assert newest_run(tmp_path / "runs") == run
    command = [sys.executable, "-m", "train.dashboard", "--check", f"run={tmp_path / 'runs' / 'recipe'}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "nobody_knows is logged but no panel shows it" in done.stdout
    assert "memory/peak: it takes a GPU" in done.stdout
    assert dashboard(DashboardConfig(run=str(run))) == 0
    assert set(json.loads((run / "dashboard.json").read_text())) == {"workspace", "report"}


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        check(DashboardConfig(run=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="choose one"):
        check(DashboardConfig(save=True, check=True))
