"""The little drawing that the report needs: scales, axes, lines, bands and labels as SVG text.

No colours here: every mark carries a CSS class, and `style.css` gives it a colour that suits light or dark
surroundings. Coordinates are SVG units, y downwards.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] onto [start, end] after `bend` (identity for a linear scale)."""

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[float], float] = lambda value: value

    def __call__(self, value: float) -> float:
        low, high = self.bend(self.low), self.bend(self.high)
        share = (self.bend(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` multiples of 1, 2, 2.5 or 5 × 10^n inside [low, high]."""
    if high <= low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def spaced_ticks(candidates: Sequence[float], place: Callable[[float], float], gap: float) -> list[float]:
    """The candidates (ascending) that keep `gap` units between neighbours once placed; the first one always
    stays.
    """
    kept: list[float] = []
    for value in candidates:
        if not kept or abs(place(value) - place(kept[-1])) >= gap:
            kept.append(value)
    return kept


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves label positions apart to at least `gap`, in their order, staying within [low, high] where there
    is room.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    moved = list(positions)
    floor = low
    for index in order:
        moved[index] = max(moved[index], floor)
        floor = moved[index] + gap
    ceiling = high
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def short(value: float) -> str:
    """A count as an axis says it: 950, 8.4k, 32k, 1.2M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            scaled = value / size
            return (f"{scaled:.1f}".rstrip("0").rstrip(".") if abs(scaled) < 10 else f"{scaled:.0f}") + unit
    return f"{value:g}"


@dataclass
class Drawing:
    """Collects marks; `render` wraps them in an accessible <svg>."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, content: str, kind: str = "label", anchor: str = "start") -> None:
        """Text with its baseline at y."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'
        )

    def line(self, start: Point, end: Point, kind: str) -> None:
        """A straight line."""
        (x1, y1), (x2, y2) = start, end
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def path(self, points: Sequence[Point], kind: str) -> None:
        """An open polyline."""
        if len(points) > 1:
            self.parts.append(f'<polyline points="{_join(points)}" class="{kind}"/>')

    def band(self, upper: Sequence[Point], lower: Sequence[Point], kind: str) -> None:
        """The area between two lines over the same x."""
        if len(upper) > 1:
            self.parts.append(f'<polygon points="{_join([*upper, *reversed(lower)])}" class="{kind}"/>')

    def mark(self, point: Point, shape: str, kind: str, tip: str = "") -> None:
        """A small sign at `point`: "circle", "diamond", "square" or "triangle" (downwards); `tip` shows on
        hover.
        """
        x, y = point
        tip = f"<title>{escape(tip)}</title>" if tip else ""
        if shape == "circle":
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" class="{kind}">{tip}</circle>')
            return
        shapes: dict[str, list[Point]] = {
            "diamond": [(0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)],
            "square": [(-3.8, -3.8), (3.8, -3.8), (3.8, 3.8), (-3.8, 3.8)],
            "triangle": [(-4, -4), (4, -4), (0, 3)],
        }
        points = _join([(x + dx, y + dy) for dx, dy in shapes[shape]])
        self.parts.append(f'<polygon points="{points}" class="{kind}">{tip}</polygon>')

    def render(self, title: str, description: str, kind: str = "") -> str:
        """The finished element; title and description are what a screen reader says."""
        label = escape(f"{title}. {description}", quote=True)
        return (
            f'<svg class="{kind}" viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{label}">'
            + "".join(self.parts)
            + "</svg>"
        )


def _join(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
