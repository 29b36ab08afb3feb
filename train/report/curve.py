"""The compression curve: how much of a page is read back as fewer vision tokens carry more text, beside its
floors.

The floors belong to the figure. A model that never looks at its page still scores what its language model
guesses (shuffled page, blank page); one that reads letters scores on text that no language model can guess
(random text).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from train.report.svg import Drawing, Scale, spaced_ticks, spread

BYTES_PER_REFERENCE_TOKEN = (
    4.4  # English, large byte-level BPE vocabularies; used where the reference tokenizer is absent
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """One line of the figure: the key of a row, what it is called, how it is marked."""

    key: str
    label: str
    css: str
    shape: str


SERIES = (
    Series("precision", "right page", "right", "circle"),
    Series("precision_random_text", "random text", "random", "diamond"),
    Series("precision_shuffled", "shuffled page", "shuffled", "square"),
    Series("precision_blank", "blank page", "blank", "triangle"),
)


def curve_figure(rows: Sequence[Row]) -> str:
    """The figure in two widths, of which CSS shows the one that fits the screen."""
    rows = sorted(rows, key=lambda row: row["bytes_per_vision_token"])
    return _draw(rows, 860, 400, "wide") + _draw(rows, 400, 380, "narrow")


def reference_ratio(row: Row) -> float:
    """Text tokens of a large vocabulary per vision token: measured where it was, else bytes / 4.4."""
    measured = row.get("reference_compression")
    return measured if measured is not None else row["bytes_per_vision_token"] / BYTES_PER_REFERENCE_TOKEN


def _draw(rows: Sequence[Row], width: float, height: float, kind: str) -> str:
    left, right, top, bottom = 46.0, width - (128 if kind == "wide" else 104), 18.0, height - 76
    ratios = [row["bytes_per_vision_token"] for row in rows]
    low, high = min(ratios) / 1.25, max(ratios) * 1.08
    x = Scale(low, high, left, right, math.log2)
    y = Scale(0.0, 1.0, bottom, top)
    drawing = Drawing(width, height)
    _axes(drawing, rows, x, y)
    ends: list[tuple[float, Series]] = []
    for series in reversed(SERIES):
        points = [(row["bytes_per_vision_token"], row) for row in rows if row.get(series.key) is not None]
        if points:
            _plot(drawing, series, points, x, y)
            ends.append((y(points[-1][1][series.key]), series))
    for place, (_, series) in zip(
        spread([end for end, _ in ends], 18, top + 4, bottom - 8), ends, strict=True
    ):
        drawing.text(right + 14, place + 4.5, series.label, f"end {series.css}")
    said = "; ".join(
        f"{row['bytes_per_vision_token']:.1f} bytes a token: "
        + ", ".join(
            f"{series.label} {row[series.key]:.0%}" for series in SERIES if row.get(series.key) is not None
        )
        for row in rows
    )
    return drawing.render("Compression curve: precision against bytes of text per vision token", said, kind)


def _axes(drawing: Drawing, rows: Sequence[Row], x: Scale, y: Scale) -> None:
    left, right, bottom = x.start, x.end, y.start
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line((left, y(share)), (right, y(share)), "grid" if share else "axis")
        drawing.text(left - 9, y(share) + 4.5, f"{share:.0%}".replace("%", " %"), "tick", "end")
    for ratio in spaced_ticks([row["bytes_per_vision_token"] for row in rows], x, 42):
        row = next(row for row in rows if row["bytes_per_vision_token"] == ratio)
        drawing.line((x(ratio), bottom), (x(ratio), bottom + 5), "axis")
        drawing.text(x(ratio), bottom + 21, f"{ratio:.1f}", "tick", "middle")
        drawing.text(x(ratio), bottom + 41, f"{reference_ratio(row):.1f}", "tick faint", "middle")
    drawing.text(right + 14, bottom + 21, "bytes", "tick")
    drawing.text(right + 14, bottom + 41, "≈ text tokens", "tick faint")
    measured = any(row.get("reference_compression") is not None for row in rows)
    unit = "measured" if measured else "bytes ÷ 4.4"
    detail = f" (tokens: of a large vocabulary, {unit})" if drawing.width > 500 else f" (tokens: {unit})"
    drawing.text((left + right) / 2, bottom + 65, "text per vision token" + detail, "caption", "middle")


def _plot(drawing: Drawing, series: Series, points: Sequence[tuple[float, Row]], x: Scale, y: Scale) -> None:
    bounds = [(x(ratio), row.get(f"{series.key}_interval")) for ratio, row in points]
    known = [(place, interval) for place, interval in bounds if interval]
    upper = [(place, y(interval[1])) for place, interval in known]
    lower = [(place, y(interval[0])) for place, interval in known]
    drawing.band(upper, lower, f"band {series.css}")
    for (place, top), (_, bottom) in zip(upper, lower, strict=True):
        drawing.line((place, top), (place, bottom), f"whisker {series.css}")
    drawing.path([(x(ratio), y(row[series.key])) for ratio, row in points], f"curve {series.css}")
    for ratio, row in points:
        value = row[series.key]
        tip = f"{series.label}: {value:.1%} at {ratio:.2f} bytes per vision token, {row.get('pages', '?')} pages"
        drawing.mark((x(ratio), y(value)), series.shape, f"mark {series.css}", tip)
        if series.key == "precision":
            drawing.text(x(ratio), y(value) - 13, f"{100 * value:.0f}", "value right", "middle")


COLUMNS: tuple[tuple[str, str], ...] = (
    ("source", "source"),
    ("bytes_per_vision_token", "bytes per vision token"),
    ("pages", "pages"),
    ("precision", "precision"),
    ("precision_interval", "95 % interval"),
    ("word_precision", "word precision"),
    ("precision_shuffled", "shuffled page"),
    ("precision_blank", "blank page"),
    ("precision_random_text", "random text"),
    ("accuracy", "next-token accuracy"),
    ("cross_entropy", "nats a token"),
    ("cross_entropy_shuffled", "nats, shuffled"),
    ("image_gain", "image gain"),
)


def curve_table(rows: Sequence[Row]) -> str:
    """The figures of the curve, one row a held-out source; what none of them has is left out."""
    rows = sorted(rows, key=lambda row: row["bytes_per_vision_token"])
    columns = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for _, title in columns)
    body = "".join("<tr>" + "".join(_cell(row, key) for key, _ in columns) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(row: Row, key: str) -> str:
    value = row.get(key)
    if key == "source":
        return f'<th scope="row">{escape(str(value))}</th>'
    if value is None:
        return '<td class="none">–</td>'
    if key == "precision_interval":
        return f"<td>{100 * value[0]:.0f} – {100 * value[1]:.0f}</td>"
    if key == "pages":
        return f"<td>{value}</td>"
    if key.startswith("precision") or key in ("word_precision", "accuracy"):
        return f"<td>{100 * value:.1f}</td>"
    return f"<td>{value:.2f}</td>"
