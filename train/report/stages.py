"""The report's part about a chain: what each stage did to precision, size and speed."""

from collections.abc import Sequence
from html import escape
from typing import Any

from train.report.html import section, table
from train.report.run import Run
from train.run_folder import read_json

FILE = "stages/stages.json"  # in a recipe's folder, of its step `compare`
TEXT = (
    "The model after each stage, on the same held-out pages. Each stage starts from the one before it. Sizes are of the weights as "
    "they are stored: in fp32, or as the integers that training rounded them to; the last one is that of the files. Seconds are "
    "of a training step, which some stages spend on less than the whole model, or on a teacher."
)


def stage_rows(run: Run) -> list[dict[str, Any]]:
    """The figures of each stage, for report.json; [] where they were not compared."""
    found = read_json(run.folder / FILE)
    return list(found.get("stages", [])) if isinstance(found, dict) else []


def stages_section(run: Run) -> str:
    """Bars of precision and a table; nothing where there is no comparison."""
    rows = stage_rows(run)
    if not rows:
        return ""
    sources = list(dict.fromkeys(found["source"] for row in rows for found in row.get("sources", [])))
    titles = (
        "stage",
        *(f"precision, {source}" for source in sources),
        "image gain, nats",
        "size, MB",
        "s a step",
        "steps",
    )
    return section(
        "What each stage did",
        TEXT,
        _bars(rows, sources) + table(titles, (_cells(row, sources) for row in rows)),
    )


def _bars(rows: Sequence[dict[str, Any]], sources: Sequence[str]) -> str:
    found = ""
    for source in sources:
        items = "".join(
            f'<li><span>{escape(row["name"])}</span><i style="--share:{of["precision"]:.3f}"></i>'
            f"<b>{100 * of['precision']:.1f} %</b></li>"
            for row in rows
            for of in row.get("sources", [])
            if of["source"] == source and of.get("precision") is not None
        )
        found += f'<h3>Precision, {escape(source)}</h3><ul class="bars">{items}</ul>'
    return found


def _cells(row: dict[str, Any], sources: Sequence[str]) -> Sequence[str]:
    by_source = {of["source"]: of for of in row.get("sources", [])}
    gains = [of["image_gain"] for of in by_source.values() if of.get("image_gain") is not None]
    seconds = row.get("step_seconds")
    return (
        row["name"],
        *(_precision(by_source.get(source)) for source in sources),
        f"{max(gains):.2f}" if gains else "–",
        f"{row['megabytes']:.2f}",
        f"{seconds:.3f}" if seconds else "–",
        str(row.get("steps") or "–"),
    )


def _precision(row: dict[str, Any] | None) -> str:
    if row is None or row.get("precision") is None:
        return "–"
    bounds = row.get("precision_interval")
    interval = f" ({100 * bounds[0]:.0f}–{100 * bounds[1]:.0f})" if bounds else ""
    return f"{100 * row['precision']:.1f} %{interval}"
