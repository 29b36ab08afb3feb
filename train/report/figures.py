"""The figures of an evaluation, from metrics.json: the compression curve, and the same pages in several modes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.report.plot import MEASURED, Dot, Line, Panel, merged
from train.report.png import write_png

Row = dict[str, Any]
Content = dict[str, Any]
MOST_SOURCES = 5  # that the forgetting curve shows apart
FLOORS = {"random": "random text", "shuffled": "another page", "blank": "blank page"}
FLOOR_KEYS = {"random": "precision_random_text", "shuffled": "precision_shuffled", "blank": "precision_blank"}


def write_figures(folder: Path, content: Content, others: Sequence[Content]) -> dict[str, list[Panel]]:
    """curve.png, and forgetting.png where there are several modes; name → the panels that were drawn."""
    figures = {"curve": [curve_panel(content, others)]}
    note = f"Tokens: {content['tokenizer']['name']}. Bars: 95 % bootstrap intervals over pages."
    count = "Grey numbers: pages behind each point of"
    first = figures["curve"][0].measured[0].label
    write_png(folder / "curve.png", "Compression curve", f"{note}\n{count} “{first}”.", figures["curve"])
    if len(content["modes"]) > 1:
        figures["forgetting"] = forgetting_panels(content)
        pages = f"{count} “all pages”, the same ones in each mode."
        write_png(folder / "forgetting.png", "Forgetting curve", f"{note} {pages}", figures["forgetting"])
    else:
        (folder / "forgetting.png").unlink(missing_ok=True)  # of an earlier evaluation with more modes
    return figures


def curve_panel(content: Content, others: Sequence[Content] = ()) -> Panel:
    """Precision over text tokens per vision token, a point for each bin of text tokens: a line for each mode, one for
    each other run and mode, and the floors of this run's main mode.
    """
    runs = [content, *others]
    measured = [
        _line(rows, _label(run, mode, len(runs) > 1), "compression")
        for run in runs
        for mode, rows in by_mode(run["bins"]).items()
    ]
    main, edges = content["main_mode"], content["bin_edges"]
    told = f", {main}" if len(content["modes"]) > 1 else ""
    rows = by_mode(content["bins"])[main]
    # Random text lies where its own tokens put it: it makes more of them than prose does.
    lots = [
        {**row, "random_text_pages": row["pages"]} for row in by_mode(content["random_text"]).get(main, [])
    ]
    floors = [
        _line(lots, FLOORS["random"] + told, "compression", kind="random"),
        *(_floor(rows, kind, "compression", told) for kind in ("shuffled", "blank")),
    ]
    return Panel(
        "Compression curve: precision over text tokens per vision token",
        "text tokens per vision token",
        f"text tokens per vision token (pages of {edges[0]} to {edges[-1] - 1} text tokens)",
        merged([*measured, *floors]),
    )


def forgetting_panels(content: Content) -> list[Panel]:
    """Precision of the same pages over the vision tokens they got, and over compression: a line for all pages and one
    for each source, with the floors of all pages.
    """
    rows, sources = content["modes"], list(dict.fromkeys(row["source"] for row in content["curve"]))
    apart = sources if 1 < len(sources) <= MOST_SOURCES else []
    panels = []
    for key, title in (
        ("vision_tokens", "vision tokens a page"),
        ("compression", "text tokens per vision token"),
    ):
        lines = [_line(rows, "all pages", key)]
        lines += [
            _line([row for row in content["curve"] if row["source"] == source], source, key)
            for source in apart
        ]
        lines += [_floor(rows, kind, key) for kind in FLOORS]
        ticks = tuple(sorted({row[key] for row in rows}))
        panels.append(Panel(f"Forgetting curve: precision over {title}", title, title, merged(lines), ticks))
    return panels


def by_mode(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each mode, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["mode"], []).append(row)
    return found


def _label(run: Content, mode: str, with_name: bool) -> str:
    several = len(by_mode(run["bins"])) > 1
    if with_name:
        return f"{run['name']}, {mode}" if several else str(run["name"])
    return f"right page, {mode}" if several else "right page"


def _line(rows: Sequence[Row], label: str, over: str, key: str = "precision", kind: str = MEASURED) -> Line:
    pages = "random_text_pages" if kind == "random" else f"{key}_pages"
    dots = [
        Dot(row[over], row[key], _bounds(row, key), int(row.get(pages) or row["pages"]))
        for row in rows
        if row.get(key) is not None
    ]
    return Line(label, tuple(sorted(dots, key=lambda dot: dot.x)), kind)


def _floor(rows: Sequence[Row], kind: str, over: str, told: str = "") -> Line:
    return _line(rows, FLOORS[kind] + told, over, FLOOR_KEYS[kind], kind)


def _bounds(row: Row, key: str) -> tuple[float, float] | None:
    found = row.get(f"{key}_interval")
    return (found[0], found[1]) if found else None
