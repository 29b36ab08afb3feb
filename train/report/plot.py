"""A figure as data, drawn once as SVG for a report (here) and once as PNG (`train.report.png`): the same points, the
same bounds, the same words.

All figures of an evaluation are of one kind: precision, 0 to 1, over a quantity on a logarithmic axis, each point with
its interval and its number of pages; measured lines, and the floors that belong to them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from train.report.svg import Drawing, Scale, spaced_ticks, spread

MEASURED = "measured"
FLOORS = ("random", "shuffled", "blank")
SHAPES = ("circle", "square", "diamond", "triangle")  # of the measured lines, in turn
COLOURS = ("s0", "s1", "s2", "s4", "s5")  # of style.css, without the one that random text has


@dataclass(frozen=True)
class Dot:
    """One point: `y` with its bounds (None: not known), and the pages that it is the mean of."""

    x: float
    y: float
    bounds: tuple[float, float] | None
    pages: int


@dataclass(frozen=True)
class Line:
    """Points that belong together. kind: "measured", or the floor that this is: "random", "shuffled", "blank"."""

    label: str
    dots: tuple[Dot, ...]
    kind: str = MEASURED


@dataclass(frozen=True)
class Panel:
    """One figure; `short` and `long` x titles, of which the narrow drawing takes the first. ticks: where the x axis is
    labelled; () for the points themselves.
    """

    title: str
    short: str
    long: str
    lines: tuple[Line, ...]
    ticks: tuple[float, ...] = ()

    @property
    def measured(self) -> list[Line]:
        """The lines that are no floors, in order."""
        return [line for line in self.lines if line.kind == MEASURED]

    def places(self) -> list[float]:
        """Where the x axis may be labelled, ascending."""
        return sorted(self.ticks or {dot.x for line in self.lines for dot in line.dots})

    def limits(self) -> tuple[float, float]:
        """Ends of the x axis: a little beyond the outermost points."""
        every = [dot.x for line in self.lines for dot in line.dots]
        return min(every) / 1.18, max(every) * 1.12


def panel_figure(panel: Panel) -> str:
    """The figure in two widths, of which CSS shows the one that fits the screen; the narrow one has its names below.
    `panel` has at least one dot.
    """
    key = "".join(
        f'<span class="{style_of(panel, line)[0]}">{_mark(panel, line)} {escape(line.label)}</span>'
        for line in panel.lines
    )
    return _draw(panel, 860, 400, "wide") + _draw(panel, 400, 380, "narrow") + f'<p class="key">{key}</p>'


def _mark(panel: Panel, line: Line) -> str:
    return {"circle": "●", "square": "■", "diamond": "◆", "triangle": "▼"}[style_of(panel, line)[1]]


def style_of(panel: Panel, line: Line) -> tuple[str, str]:
    """(CSS class, shape of the marks) of a line."""
    if line.kind in FLOORS:
        return line.kind, {"random": "diamond", "shuffled": "square", "blank": "triangle"}[line.kind]
    place = panel.measured.index(line)
    return COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)]


def tick_label(value: float) -> str:
    """A quantity as an axis says it: 0.85, 7.2, 64, 1 280."""
    return (
        f"{value:.2f}" if value < 1 else f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"
    )


def _draw(panel: Panel, width: float, height: float, kind: str) -> str:
    room = 25 + 6.9 * max(len(line.label) for line in panel.lines) if kind == "wide" else 12
    left, right = 46.0, width - min(room, 0.4 * width)
    top, bottom = 22.0, height - 58
    x = Scale(*panel.limits(), left, right, math.log2)
    y = Scale(0.0, 1.0, bottom, top)
    drawing = Drawing(width, height)
    _axes(drawing, panel, x, y, panel.long if kind == "wide" else panel.short)
    ends: list[tuple[float, Line]] = []
    for line in reversed(panel.lines):
        if line.dots:
            _plot(drawing, panel, line, x, y)
            ends.append((y(max(line.dots, key=lambda dot: dot.x).y), line))
    places = spread([end for end, _ in ends], 17, top + 4, bottom - 6)
    for place, (_, line) in zip(places, ends, strict=True) if kind == "wide" else ():
        drawing.text(right + 12, place + 4.5, line.label, f"end {style_of(panel, line)[0]}")
    return drawing.render(panel.title, said(panel), kind)


def said(panel: Panel) -> str:
    """What a screen reader says of the figure."""
    return "; ".join(
        f"{line.label}: " + ", ".join(f"{dot.y:.0%} at {tick_label(dot.x)}" for dot in line.dots)
        for line in panel.lines
    )


def _axes(drawing: Drawing, panel: Panel, x: Scale, y: Scale, title: str) -> None:
    left, right, bottom = x.start, x.end, y.start
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line((left, y(share)), (right, y(share)), "grid" if share else "axis")
        drawing.text(left - 9, y(share) + 4.5, f"{100 * share:.0f} %", "tick", "end")
    for place in spaced_ticks(panel.places(), x, 34):
        drawing.line((x(place), bottom), (x(place), bottom + 5), "axis")
        drawing.text(x(place), bottom + 21, tick_label(place), "tick", "middle")
    drawing.text((left + right) / 2, bottom + 46, title, "caption", "middle")


def _plot(drawing: Drawing, panel: Panel, line: Line, x: Scale, y: Scale) -> None:
    css, shape = style_of(panel, line)
    dots = sorted(line.dots, key=lambda dot: dot.x)
    known = [(x(dot.x), dot.bounds) for dot in dots if dot.bounds]
    upper = [(place, y(bounds[1])) for place, bounds in known]
    lower = [(place, y(bounds[0])) for place, bounds in known]
    drawing.band(upper, lower, f"band {css}")
    for (place, high), (_, low) in zip(upper, lower, strict=True):
        drawing.line((place, high), (place, low), f"whisker {css}")
    drawing.path([(x(dot.x), y(dot.y)) for dot in dots], f"curve {css}")
    labelled = spaced_ticks([dot.x for dot in dots], x, 24) if panel.measured[:1] == [line] else []
    for dot in dots:
        bounds = f" ({dot.bounds[0]:.1%} – {dot.bounds[1]:.1%})" if dot.bounds else ""
        tip = f"{line.label}: {dot.y:.1%}{bounds} at {tick_label(dot.x)}, {dot.pages} pages"
        drawing.mark((x(dot.x), y(dot.y)), shape, f"mark {css}", tip)
        if dot.x in labelled:
            drawing.text(x(dot.x), y(dot.y) - 13, f"{100 * dot.y:.0f}", f"value {css}", "middle")


def merged(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines that have any point."""
    return tuple(line for line in lines if line.dots)
