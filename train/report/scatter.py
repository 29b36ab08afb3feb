"""Change of magnitude over change of direction as a scatter plot in SVG: a point for each weight and look, and the line through
all of them. Looks differ in colour and shape; many of them share one with their neighbours.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from train.report.movement import Movement, correlation, points_of, signed
from train.report.plot import COLOURS, SHAPES
from train.report.svg import Drawing, Scale, round_ticks

X_TITLE, Y_TITLE = "change of direction, mean of 1 − cos", "change of magnitude"
STYLES = 4  # of looks that can be told apart


def scatter_figure(movement: Movement) -> str:
    """The figure of one run; `movement` has at least one row."""
    width, height = 520.0, 330.0
    points = points_of(movement.rows)
    (low_x, high_x), (low_y, high_y) = (limits([point[axis] for point in points]) for axis in (0, 1))
    x, y = Scale(low_x, high_x, 58, width - 16), Scale(low_y, high_y, height - 76, 30)
    drawing = Drawing(width, height)
    _axes(drawing, x, y)
    if (line := trend(points)) is not None:
        drawing.path([(x(at), y(value)) for at, value in line], "curve s3")
    for number, group in enumerate(groups_of(movement)):
        css = f"{COLOURS[number]}"
        for row in group:
            tip = f"{row['layer']}, step {row['step']}: {row['magnitude']:.3g} over {row['direction']:.3g}"
            drawing.mark((x(row["direction"]), y(row["magnitude"])), SHAPES[number], f"mark {css}", tip)
        place = x.start + number * (x.end - x.start) / STYLES
        drawing.mark((place + 6, height - 12), SHAPES[number], f"mark {css}")
        drawing.text(place + 16, height - 7.5, steps_of(group), f"end {css}")
    pooled = signed(movement.correlations()["pooled"])
    said = f"{len(points)} points, correlation {pooled}"
    return drawing.render(f"{movement.label}: {Y_TITLE} over {X_TITLE}", said, "small")


def groups_of(movement: Movement) -> list[list[Mapping[str, Any]]]:
    """The rows by what they are drawn with: looks in order, in at most STYLES groups."""
    looks = list(movement.looks().values())
    count = min(STYLES, len(looks))
    groups: list[list[Mapping[str, Any]]] = [[] for _ in range(count)]
    for number, rows in enumerate(looks):
        groups[number * count // len(looks)] += rows
    return groups


def steps_of(group: Sequence[Mapping[str, Any]]) -> str:
    """Which looks a group has."""
    first, last = group[0]["step"], group[-1]["step"]
    return f"step {first}" if first == last else f"steps {first}–{last}"


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis: zero, or a little below the least where zero is far off, and a little above the most."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return (0.0 if low <= 0.4 * high else low - room), high + room


def trend(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]] | None:
    """The ends of the regression line; None where there is no correlation."""
    if correlation(points) is None:
        return None
    places = [place for place, _ in points]
    slope, intercept = statistics.linear_regression(*zip(*points, strict=True))
    return [(place, intercept + slope * place) for place in (min(places), max(places))]


def _axes(drawing: Drawing, x: Scale, y: Scale) -> None:
    for tick in round_ticks(y.low, y.high, 4):
        drawing.line((x.start, y(tick)), (x.end, y(tick)), "grid")
        drawing.text(x.start - 8, y(tick) + 4.5, f"{tick:.3g}", "tick", "end")
    drawing.line((x.start, y.start), (x.end, y.start), "axis")
    for tick in round_ticks(x.low, x.high, 5):
        drawing.line((x(tick), y.start), (x(tick), y.start + 5), "axis")
        drawing.text(x(tick), y.start + 20, f"{tick:.3g}", "tick", "middle")
    drawing.text(x.start - 50, 16, Y_TITLE, "caption")
    drawing.text((x.start + x.end) / 2, y.start + 40, X_TITLE, "caption", "middle")
