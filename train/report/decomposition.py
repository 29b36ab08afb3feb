"""The report's part about weights: how far they moved by length and by direction, stage beside stage."""

from collections.abc import Sequence
from html import escape
from typing import Any

from train.report.html import section, table
from train.report.movement import Movement, movement_of, signed
from train.report.run import Run
from train.report.scatter import scatter_figure

TEXT = (
    "Each point is one weight at one look: how far the lengths of its rows are from those that the stage began with, over how far "
    "the rows have turned (DoRA, section 3.2). LoRA can hardly stretch a row without turning it, so that both tend to grow together; "
    "full fine-tuning and DoRA can do either. What the signs are depends on the task and on how long was trained: pooled "
    "over looks, both grow with time for every method. Compare within one step."
)


def decomposition_section(run: Run) -> str:
    """A scatter plot for each stage that looked, and a table of correlations; nothing where none did."""
    movements = movements_of(run)
    if not movements:
        return ""
    cells = "".join(
        f'<figure class="cell"><figcaption><b>{escape(movement.label)}</b> r = '
        f"{signed(movement.correlations()['pooled'])}</figcaption>{scatter_figure(movement)}</figure>"
        for movement in movements
    )
    titles = (
        "stage",
        "weights",
        "looks",
        "r, all looks",
        "r, first look",
        "r, last look",
        "r between rows, last look",
    )
    body = f'<div class="grid2">{cells}</div>' + table(titles, map(_row, movements))
    return section("How weights moved", TEXT, body)


def movements_of(run: Run) -> list[Movement]:
    """Of the stages that looked, in their order."""
    return [movement for stage in run.stages if (movement := movement_of(stage)) is not None]


def decomposition_summaries(run: Run) -> list[dict[str, Any]]:
    """The correlations of each stage that looked, for report.json."""
    return [{"stage": movement.label, **movement.correlations()} for movement in movements_of(run)]


def _row(movement: Movement) -> Sequence[str]:
    found, looks = movement.correlations(), movement.looks()
    by_step, weights = list(found["by_step"].values()), len({row["layer"] for row in movement.rows})
    numbers = (found["pooled"], by_step[0], by_step[-1], found["by_row"])
    return (movement.label, str(weights), str(len(looks)), *map(signed, numbers))
