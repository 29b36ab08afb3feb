"""The figures of an evaluation as PNG files, for papers and slides; matplotlib draws, without a screen.

Colours are Okabe and Ito's, which colour-blind readers tell apart; lines differ in marker and dash as well.
"""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.atomic import atomic_write
from train.report.plot import FLOORS, Line, Panel, tick_label
from train.report.svg import spaced_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
FLOOR_STYLES: dict[str, dict[str, Any]] = {
    "random": {"color": "#B08600", "marker": "d", "linestyle": (0, (6, 3))},
    "shuffled": {"color": "#666666", "marker": "s", "linestyle": ":"},
    "blank": {"color": "#999999", "marker": "v", "linestyle": ":"},
}
LINE_INCHES = 0.215  # height of a legend's line


def write_png(path: Path, title: str, note: str, panels: Sequence[Panel]) -> None:
    """Panels side by side under one title and over one axis of precision, with one legend below and `note` under it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    columns = 3 if len(panels) == 1 else 4
    notes = note.count("\n") + 1
    below = LINE_INCHES * (-(-len(labels) // columns) + 0.82 * notes) + 0.62
    width, height = (7.6 if len(panels) == 1 else 5.4 * len(panels)), 4.0 + below
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw(axis, panel, first=place == 0)
    figure.subplots_adjust(
        left=0.72 / width,
        right=1 - 0.22 / width,
        top=1 - 0.62 / height,
        bottom=(below + 0.05) / height,
        wspace=0.07,
    )
    figure.text(0.72 / width, 1 - 0.25 / height, title, fontsize=12, fontweight="bold", va="center")
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        [handles[label] for label in labels], labels, loc="upper left", ncols=columns, frameon=False, fontsize=8.5,
        bbox_to_anchor=(0.62 / width, (below - 0.46) / height), borderaxespad=0, labelspacing=0.35,
    )  # fmt: skip
    figure.text(
        0.72 / width, 0.1 / height, note, fontsize=7.5, color="#555555", va="bottom", linespacing=1.35
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _draw(axis: "Axes", panel: Panel, first: bool) -> None:
    from matplotlib.ticker import NullLocator

    for line in reversed(panel.lines):
        _plot(axis, panel, line)
    _page_counts(axis, panel)
    axis.set_xscale("log", base=2)
    axis.set_xlim(*panel.limits())
    axis.set_ylim(0, 1.04)
    places = spaced_ticks(panel.places(), _log_place(*panel.limits()), 0.075)
    axis.set_xticks(places, [tick_label(place) for place in places], fontsize=8.5)
    axis.xaxis.set_minor_locator(NullLocator())
    shares = (0, 0.25, 0.5, 0.75, 1)
    axis.set_yticks(shares, [f"{100 * share:.0f} %" for share in shares], fontsize=8.5)
    axis.set_xlabel(panel.long, fontsize=9)
    if first:
        axis.set_ylabel("precision (1 − normalised edit distance)", fontsize=9)
    axis.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.tick_params(length=3)


def _plot(axis: "Axes", panel: Panel, line: Line) -> None:
    dots = sorted(line.dots, key=lambda dot: dot.x)
    floor = line.kind in FLOORS
    place = 0 if floor else panel.measured.index(line)
    style: dict[str, Any] = (
        {**FLOOR_STYLES[line.kind], "markerfacecolor": "white", "linewidth": 1.3, "markersize": 5}
        if floor
        else {
            "color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)],
            "linestyle": DASHES[place // len(COLOURS) % len(DASHES)], "linewidth": 2, "markersize": 6,
            "markeredgecolor": "white",
        }
    )  # fmt: skip
    below = [dot.y - dot.bounds[0] if dot.bounds else 0.0 for dot in dots]
    above = [dot.bounds[1] - dot.y if dot.bounds else 0.0 for dot in dots]
    error = [[max(value, 0.0) for value in side] for side in (below, above)]
    axis.errorbar(
        [dot.x for dot in dots], [dot.y for dot in dots], yerr=error, label=line.label, capsize=2.5, elinewidth=1,
        clip_on=False, zorder=3 if not floor else 2, **style,
    )  # fmt: skip


def _page_counts(axis: "Axes", panel: Panel) -> None:
    """How many pages each point of the first line stands for, over the frame; close ones in two rows."""
    scale, last, raised = _log_place(*panel.limits()), -1.0, False
    for dot in sorted(panel.measured[0].dots, key=lambda dot: dot.x):
        raised = not raised and scale(dot.x) - last < 0.05
        last = scale(dot.x)
        axis.annotate(
            f"{dot.pages}", (last, 1), xytext=(0, 10 if raised else 2), xycoords="axes fraction",
            textcoords="offset points", ha="center", fontsize=7, color="#555555", annotation_clip=False,
        )  # fmt: skip


def _log_place(low: float, high: float) -> Callable[[float], float]:
    """Where a value lies on the axis, 0 to 1."""
    return lambda value: math.log(value / low) / math.log(high / low)
