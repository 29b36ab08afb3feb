"""The report as one HTML file: no script, nothing fetched, readable on paper, on a phone, by light and by
dark.
"""

from datetime import date
from html import escape
from typing import Any

from train.monitor.console import duration
from train.report.curve import BYTES_PER_REFERENCE_TOKEN, curve_figure, curve_table, reference_ratio
from train.report.decomposition import decomposition_section
from train.report.facts import without_paths
from train.report.html import document, guide, header, section, tiles
from train.report.kinds import kinds_section, of_text_alone
from train.report.learning import learning_figures
from train.report.run import EVALUATION, Run
from train.report.run_section import run_section
from train.report.sections import forgetting_section, samples_section
from train.report.stages import stages_section
from train.report.summary import best_row
from train.report.svg import short
from train.report.while_training import while_training_section

GUIDE = {
    "The unit.": "Text is counted in bytes per vision token. DeepSeek-OCR counts text tokens of a large vocabulary; {unit}. "
    "Its “10×” would be some 40 bytes per vision token.",
    "Density and letter size move together.": "A page with more text also has smaller letters, so a falling curve mixes how "
    "much fits into a vision token with how well small print is seen.",
    "A falling curve may lack training, not capacity.": "Compare the curve of a longer run before drawing a limit from it.",
    "The floors are part of the figure.": "Shuffled: the text of one page against what was read from another. Blank: what is "
    "written with nothing on the page. Random text: pages on which a language model has nothing to guess.",
    "The intervals": "come from resampling the held-out pages. They know nothing of other seeds: this is one run.",
    "Clean pages.": "They are typeset for the purpose and free of noise; scans and photographs are harder.",
    "The glyph map": "is a helper loss that the renderer makes possible, in training only. What is measured here is generated "
    "from the vision tokens alone.",
}


def render(run: Run, summary: dict[str, Any]) -> str:
    """The whole page. `summary` is report.json's content."""
    parts = [
        _header(run, summary),
        _missing(run),
        _tiles(run, summary),
        _curve(run),
        kinds_section(run.evaluation or {}, run.folder / EVALUATION),
        samples_section(run.evaluation or {}, run.folder / EVALUATION),
        stages_section(run),
        _learning(run),
        while_training_section(run),
        decomposition_section(run),
        run_section(run, summary),
        _reading_guide(run),
    ]
    return document(run.name, parts)


def _header(run: Run, summary: dict[str, Any]) -> str:
    tokens = [
        row["vision_tokens"] for row in (run.evaluation or {}).get("curve", []) if row.get("vision_tokens")
    ]
    seen = f"the {tokens[0]:g} vision tokens" if tokens else "the few vision tokens"
    return header(
        f"run “{run.name}” · {date.today():%-d %B %Y}",
        summary["headline"],
        f"A page of text is a picture. An encoder presses it into {seen} that are all a language model "
        "gets to see, and the model writes down what the page says. This is how well it did, and how it came to it.",
    )


def _missing(run: Run) -> str:
    if not run.missing:
        return ""
    items = "".join(f"<li>{escape(item)}</li>" for item in run.missing)
    return f'<aside class="missing"><b>This run is not finished.</b><ul>{items}</ul></aside>'


def _tiles(run: Run, summary: dict[str, Any]) -> str:
    found: list[tuple[str, str, str]] = []
    curve = summary["curve"]
    if curve:
        row = best_row(curve)
        bounds = [100 * bound for bound in row.get("precision_interval") or ()]
        interval = f"95 % interval {bounds[0]:.0f}–{bounds[1]:.0f}, " if bounds else ""
        found.append(
            (f"{100 * row['precision']:.1f} %", "precision", f"{interval}{row['pages']} held-out pages")
        )
        found.append(
            (
                f"{row['bytes_per_vision_token']:.1f}",
                "bytes per vision token",
                f"about {reference_ratio(row):.1f} large-vocabulary text tokens",
            )
        )
        if row.get("image_gain") is not None:
            found.append(
                (f"{row['image_gain']:.2f}", "image gain, nats", "wrong page − right page; 0 = never looks")
            )
    pages, seconds = sum(s["pages"] for s in summary["stages"]), sum(s["seconds"] for s in summary["stages"])
    if pages:
        speed = f"{summary['pages_per_second']:.0f} pages/s" if summary["pages_per_second"] else ""
        found.append((short(pages), "pages trained on", f"in {duration(seconds)}, {speed}"))
    parameters = _parameters(summary["parameters"])
    if parameters is not None:
        found.append((short(parameters), "parameters", str(summary["device"] or "")))
    return tiles((value, name, without_paths(text)) for value, name, text in found)


def _parameters(value: Any) -> float | None:
    return value.get("total") if isinstance(value, dict) else value


def _curve(run: Run) -> str:
    evaluation = run.evaluation or {}
    curve = evaluation.get("curve", [])
    if not curve:
        return ""
    shown = [row for row in curve if row["mode"] == evaluation["main_mode"]]
    return section(
        "The compression curve",
        "Precision is one minus the normalised edit distance between the page's text and what was generated from it, "
        "greedily, without help. The floors say what the same model scores without the right page."
        + of_text_alone(evaluation),
        f'<figure class="chart">{curve_figure(shown)}</figure>{curve_table(shown)}',
    ) + forgetting_section(evaluation)


def _learning(run: Run) -> str:
    figures = learning_figures(run)
    if not figures:
        return ""
    cells = "".join(
        f'<figure class="cell"><figcaption><b>{escape(title)}</b> {escape(text)}</figcaption>{figure}</figure>'
        for title, text, figure in figures
    )
    found = run.takes_off()
    when = (
        f"It begins to look at its pages after {short(found['pages'])} pages ({duration(found['seconds'])} of training). "
        if found
        else "At no held-out look did the page help by half a nat: it has not begun to read. "
        if run.stages
        else ""
    )
    text = (
        when
        + "Vertical lines part the stages; triangles mark a new level of the curriculum. Early pages get more room."
    )
    return section("How it learned", text, f'<div class="grid2">{cells}</div>')


def _reading_guide(run: Run) -> str:
    curve = (run.evaluation or {}).get("curve", [])
    measured = any(row.get("reference_compression") is not None for row in curve)
    unit = (
        "the lower axis gives the measured count"
        if measured
        else f"dividing by about {BYTES_PER_REFERENCE_TOKEN} gives it"
    )
    points = ((title, text.format(unit=unit)) for title, text in GUIDE.items())
    return section("Reading this honestly", "", guide(points))
