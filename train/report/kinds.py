"""What is read, kind by kind: of each kind its figures with their floors, and pages with what was asked, read and meant."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from train.evaluate.metrics.cells import PlacedCell, placed_cells
from train.report.figures import Row, by_mode
from train.report.html import section
from train.report.overlay import LEGEND as PLACES
from train.report.overlay import overlay
from train.report.reading import LEGEND, MARKED_FROM, data_uri, marked
from train.report.tables import interval_of

TITLES = {
    "text": ("Text", "a page → its text"),
    "page": ("Pages", "a document → its text, its lines with boxes, or Markdown with boxes"),
    "pdf": ("PDF pages", "a page of a PDF → its text, or Markdown with boxes"),
    "table": ("Tables", "a table → HTML"),
    "chart": ("Charts", "a chart → the HTML table of its values"),
    "formula": ("Formulas", "formulas → LaTeX"),
    "molecule": ("Molecules", "a structural formula → SMILES"),
    "geometry": ("Plane geometry", "a figure → its segments, points and circles"),
    "scene": ("Scenes", "a picture → things with their boxes, or a description"),
    "prose": ("Text alone", "no page: how well the next token is foretold"),
}
SHARE, PLAIN = "share", "plain"
FIGURES = {  # of a row: name → (what it is called, how it is written)
    "teds": ("TEDS", SHARE), "teds_structure": ("TEDS, structure alone", SHARE), "cells_right": ("cells right, numbers ±5 %", SHARE),
    "table_exact": ("tables exact", SHARE), "rms_f1": ("RMS F1", SHARE), "latex_similarity": ("LaTeX, 1 − edit distance", SHARE),
    "latex_exact": ("formulas exact", SHARE), "tanimoto": ("Tanimoto similarity", SHARE), "smiles_valid": ("valid SMILES", SHARE),
    "smiles_exact": ("molecules exact", SHARE), "segment_f1": ("segments F1", SHARE), "line_types": ("line types right", SHARE),
    "point_f1": ("letters and places F1", SHARE), "circle_f1": ("circles F1", SHARE), "figure_valid": ("valid dictionaries", SHARE),
    "box_f1": ("boxes F1 at IoU 0.5", SHARE), "place_f1": ("boxes F1, any label", SHARE), "mean_iou": ("mean IoU", SHARE),
    "label_f1": ("labels F1", SHARE), "text_precision": ("text without boxes", SHARE), "order_edit": ("order, edit distance", PLAIN),
    "bits_per_byte": ("bits per byte", PLAIN), "cross_entropy": ("cross-entropy, nats", PLAIN), "accuracy": ("next token right", SHARE),
    "precision": ("characters right", SHARE), "image_gain": ("image gain, nats", PLAIN), "repetition_rate": ("answers that loop", SHARE),
}  # fmt: skip
FLOORS = (("shuffled", "another page"), ("blank", "blank page"))
MOST_CELLS = 150  # of a table that is drawn as one


def kinds_section(content: Mapping[str, Any], folder: Path) -> str:
    """A card for each kind, in the main mode; nothing where there is one kind. `folder`: what pages' paths are relative to."""
    samples = content.get("kind_samples") or []
    rows = by_mode(content.get("kinds", [])).get(content.get("main_mode", ""), [])
    if not samples or not rows:
        return ""
    cards = "".join(
        _kind(row, [sample for sample in samples if sample["kind"] == row["kind"]], folder) for row in rows
    )
    several = len(by_mode(content["kinds"])) > 1
    mode = f" In mode {content['main_mode']}; the others are in metrics.json." if several else ""
    return section(
        "What is read, kind by kind",
        f"Each kind with the measures that fit it, and beside them what the same model scores without the right page. "
        f"{content.get('sample_choice', '')}{mode}",
        LEGEND + PLACES + f'<div class="kinds">{cards}</div>',
    )


def of_text_alone(content: Mapping[str, Any]) -> str:
    """A sentence for the compression curve, where there are several kinds."""
    if not content.get("kind_samples"):
        return ""
    sources = ", ".join(dict.fromkeys(str(row["source"]) for row in content["curve"]))
    return f" Of pages of text alone (here: {sources}); every kind has figures of its own below."


def kind_summaries(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each kind in the main mode its first figure with floors, for report.json; [] where there is one kind."""
    if not content.get("kind_samples"):
        return []
    return [
        {
            **{name: row.get(name) for name in ("kind", "pages", "samples", "main")},
            "value": row[row["main"]],
            "interval": row.get(f"{row['main']}_interval"),
            **{title.replace(" ", "_"): row.get(f"{row['main']}_{name}") for name, title in FLOORS},
            "image_gain": row.get("image_gain"),
        }
        for row in by_mode(content["kinds"]).get(content["main_mode"], [])
    ]


def _kind(row: Row, samples: Sequence[Mapping[str, Any]], folder: Path) -> str:
    kind, main = str(row["kind"]), str(row["main"])
    title, does = TITLES.get(kind, (kind.capitalize(), ""))
    main = main if row.get(main) is not None else "precision"
    others = "".join(_figure(row, name) for name in FIGURES if name != main)
    shown = "".join(_sample(sample, main, folder) for sample in samples)
    return (
        f'<article class="kind{"" if shown else " bare"}"><div class="about"><h3>{escape(title)}</h3>'
        f"<p>{escape(does)}</p>{_headline(row, main)}<dl>{others}</dl></div>"
        + (f'<div class="shown">{shown}</div>' if shown else "")
        + "</article>"
    )


def _headline(row: Row, main: str) -> str:
    """The first figure, with a bar where it is a share, and its floors."""
    name, form = FIGURES[main]
    count = f"{row['pages']} pages" if row["pages"] else f"{row['samples']} texts"
    count = f"{row[f'{main}_pages']} of {count}" if row.get(f"{main}_pages") else count
    between = interval_of(row, main) if form == SHARE else _between(row, main)
    head = f"<p class='first'><strong>{_value(row[main], form)}</strong> <b>{name}</b> <small>{between}{count}</small></p>"
    if form != SHARE:
        return head
    floors = [
        (css, title, row[f"{main}_{css}"]) for css, title in FLOORS if row.get(f"{main}_{css}") is not None
    ]
    ticks = "".join(f'<i class="{css}" style="--at:{value:.3f}"></i>' for css, _, value in floors)
    told = " · ".join(
        f'<span class="{css}">{title} {_value(value, form)}</span>' for css, title, value in floors
    )
    return (
        f'{head}<div class="meter" style="--share:{row[main]:.3f}">{ticks}</div><p class="floors">{told}</p>'
    )


def _figure(row: Row, name: str) -> str:
    if row.get(name) is None:
        return ""
    title, form = FIGURES[name]
    notes = [
        f"{floor} {_value(row[f'{name}_{css}'], form)}"
        for css, floor in FLOORS[:1]
        if row.get(f"{name}_{css}") is not None
    ]
    notes += [f"{row[f'{name}_pages']} pages"] if row.get(f"{name}_pages") else []
    told = f"<small>{', '.join(notes)}</small>" if notes else ""
    return f"<div><dt>{title}{told}</dt><dd>{_value(row[name], form)}</dd></div>"


def _value(value: float, form: str) -> str:
    return (
        f"{100 * value:.0f}\u00a0%"
        if form == SHARE
        else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
    )


def _between(row: Row, name: str) -> str:
    bounds = row.get(f"{name}_interval")
    return f"95 %: {bounds[0]:.2f}–{bounds[1]:.2f}, " if bounds else ""


def _sample(sample: Mapping[str, Any], main: str, folder: Path) -> str:
    source = data_uri(folder, str(sample["page"]))
    kind, reference, hypothesis = str(sample["kind"]), str(sample["reference"]), str(sample["hypothesis"])
    alternative = escape(f"{kind}: {reference}"[:300], quote=True)
    picture = (
        f'<img src="{source}" alt="{alternative}">' if source else '<div class="lost">picture not found</div>'
    )
    figures = sample.get("figures", {})
    own = main if figures.get(main) is not None else "precision"
    name, form = FIGURES[own]
    return (
        f'<article class="card"><figure class="framed">{picture}{overlay(kind, reference, hypothesis)}</figure>'
        f'<p class="tag"><b>{escape(str(sample["choice"]))}</b> <span>{name} {_value(figures[own], form)}</span></p>'
        f'<p class="asked">{escape(str(sample["asked"]).strip())}</p>{_read(sample)}'
        f"<details><summary>what it should say</summary>{_true(reference)}</details></article>"
    )


def _read(sample: Mapping[str, Any]) -> str:
    """What was read: a table as a table, else the text with its errors marked, where it is near enough to the target."""
    reference, hypothesis = str(sample["reference"]), str(sample["hypothesis"])
    if not hypothesis:
        return '<p class="read"><span class="none">(nothing was read)</span></p>'
    cells = placed_cells(hypothesis) if "<table" in reference else []
    if 0 < len(cells) <= MOST_CELLS and _alone(hypothesis):
        true = {place: cell.text for cell in placed_cells(reference) for place in cell.places()}
        return _table(cells, [true.get((cell.row, cell.column)) == cell.text for cell in cells])
    near = float(sample["precision"]) >= MARKED_FROM
    text = marked(reference, hypothesis) if near else escape(hypothesis)
    return f'<p class="read{"" if near else " off"}">{text}</p>'


def _true(reference: str) -> str:
    cells = placed_cells(reference) if "<table" in reference else []
    if 0 < len(cells) <= MOST_CELLS and _alone(reference):
        return _table(cells, [True] * len(cells))
    return f'<p class="read said">{escape(reference)}</p>'


def _alone(text: str) -> bool:
    """Whether a text is one table and nothing else, but for an end that is missing."""
    return text.lstrip().startswith("<table") and text.count("<table") == 1


def _table(cells: Sequence[PlacedCell], right: Sequence[bool]) -> str:
    rows: dict[int, str] = {}
    for cell, good in zip(cells, right, strict=True):
        spans = f' colspan="{cell.columns}"' * (cell.columns > 1) + f' rowspan="{cell.rows}"' * (
            cell.rows > 1
        )
        content = escape(cell.text) if good else f"<mark>{escape(cell.text) or '␣'}</mark>"
        rows[cell.row] = rows.get(cell.row, "") + f"<td{spans}>{content}</td>"
    body = "".join(f"<tr>{rows.get(row, '')}</tr>" for row in range(max(rows) + 1))
    return f'<div class="scroll"><table class="drawn">{body}</table></div>'
