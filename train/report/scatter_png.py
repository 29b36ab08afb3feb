"""The scatter plots of several runs beside each other as one PNG file."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.atomic import atomic_write
from train.report.movement import Movement, points_of, signed
from train.report.png import COLOURS, MARKERS
from train.report.scatter import X_TITLE, Y_TITLE, groups_of, limits, steps_of, trend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3


def write_scatter(path: Path, title: str, note: str, movements: Sequence[Movement]) -> None:
    """A panel for each run, each with axes of its own, under one title and over `note`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(movements))
    lines = -(-len(movements) // columns)
    width, height = max(4.2 * columns, 6.0), 3.7 * lines + 0.9
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis, movement in zip(axes, movements, strict=False):
        _draw(axis, movement)
    for axis in axes[len(movements) :]:
        axis.set_visible(False)
    figure.text(0.3 / width, 1 - 0.22 / height, title, fontsize=12, fontweight="bold", va="center")
    figure.text(0.3 / width, 0.1 / height, note, fontsize=7.5, color="#555555", va="bottom", linespacing=1.35)
    figure.tight_layout(rect=(0, 0.42 / height, 1, 1 - 0.32 / height))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _draw(axis: "Axes", movement: Movement) -> None:
    points = points_of(movement.rows)
    for number, group in enumerate(groups_of(movement)):
        places, values = zip(*points_of(group), strict=True)
        axis.scatter(
            places,
            values,
            s=26,
            c=COLOURS[number],
            marker=MARKERS[number],
            linewidths=0,
            alpha=0.85,
            label=steps_of(group),
        )
    if (line := trend(points)) is not None:
        axis.plot(*zip(*line, strict=True), color="#444444", linewidth=1.2)
    axis.set_xlim(*limits([place for place, _ in points]))
    axis.set_ylim(*limits([value for _, value in points]))
    axis.set_title(f"{movement.label}: r = {signed(movement.correlations()['pooled'])}", fontsize=10)
    axis.set_xlabel(X_TITLE, fontsize=8.5)
    axis.set_ylabel(Y_TITLE, fontsize=8.5)
    axis.tick_params(labelsize=8, length=3)
    axis.grid(color="#E4E4E4", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.legend(frameon=False, fontsize=7.5)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
