"""The workspace and the report that show the panels, as wandb-workspaces' objects; no network is needed to build them."""

import json
from dataclasses import dataclass
from typing import Any

from data_pipeline.errors import UserError
from train.dashboard.panels import AXIS, SAMPLES, SAMPLES_SECTION, Panel, sections

TEXT = "Every metric over the text tokens that the model was trained on. What each one says: docs/metrics.md."


@dataclass(frozen=True)
class Dashboard:
    """Both objects. `of`: the name of the run or project."""

    of: str
    workspace: Any
    report: Any

    def to_json(self) -> dict[str, Any]:
        """What would be uploaded."""
        return {name: _plain(getattr(self, name)) for name in ("workspace", "report")}

    def save(self) -> list[str]:
        """Uploads both; their addresses. Raises UserError where wandb will not, above all without a login."""
        try:
            return [self.workspace.save().url, self.report.save().url]
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"wandb did not take the dashboard ({reason}). Log in with `wandb login`, or leave out save=true: the JSON needs no login."
            ) from None


def build(project: str, entity: str, run: str | None) -> Dashboard:
    """The dashboard of a project, the report of it about one run if given. UserError without the library."""
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise UserError(f"dashboards need {error.name}: pip install -c constraints.txt 'microfiche[dashboard]'") from None
    of = run or project
    plots: dict[str, list[Any]] = {name: [_plot(reports, panel) for panel in panels] for name, panels in sections().items()}
    plots[SAMPLES_SECTION].append(reports.WeavePanelSummaryTable(table_name=SAMPLES))
    parts = [workspaces.Section(name=name, panels=own, is_open=index < 2) for index, (name, own) in enumerate(plots.items())]
    workspace = workspaces.Workspace(
        entity=entity, project=project, name=f"Microfiche: {of}", sections=parts, settings=workspaces.WorkspaceSettings(x_axis=AXIS)
    )
    blocks: list[Any] = [reports.P(TEXT)]
    for name, own in plots.items():
        runs = reports.Runset(entity=entity, project=project, name=of, query=run or "")
        blocks += [reports.H2(name), reports.PanelGrid(runsets=[runs], panels=own)]
    report = reports.Report(entity=entity, project=project, title=f"Microfiche: {of}", description=TEXT, blocks=blocks)
    return Dashboard(of, workspace, report)


def _plot(reports: Any, panel: Panel) -> Any:
    shown = {"y": [panel.metric.name]} if panel.pattern is None else {"metric_regex": panel.pattern}
    return reports.LinePlot(title=panel.title, x=AXIS, title_x=AXIS, title_y=panel.metric.unit or None, **shown)


def _plain(built: Any) -> Any:
    return json.loads(built._to_model().model_dump_json(by_alias=True, exclude_none=True))
