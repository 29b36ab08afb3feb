"""Rows of metrics.json as tables: which figures are shown, under which names, each with its interval."""

from collections.abc import Sequence

from train.report.figures import Row

PERCENT, RATE, PLAIN = "percent", "rate", "plain"
Column = tuple[str, str, str]  # key of a row, title, how it is written
METRICS: tuple[Column, ...] = (
    ("precision", "precision", PERCENT),
    ("word_precision", "word precision", PERCENT),
    ("character_error_rate", "CER", RATE),
    ("word_error_rate", "WER", RATE),
    ("repetition_rate", "pages that loop", PERCENT),
)
FLOORS: tuple[Column, ...] = (
    ("precision_shuffled", "another page", PERCENT),
    ("precision_blank", "blank page", PERCENT),
    ("precision_random_text", "random text", PERCENT),
)
FOX: tuple[Column, ...] = (
    ("fox_precision", "precision", PERCENT),
    ("fox_published_precision", "precision as published", PERCENT),
    ("fox_f_measure", "F", PERCENT),
    ("fox_bleu", "BLEU", PERCENT),
    ("fox_published_bleu", "BLEU as published", PERCENT),
    ("fox_meteor", "METEOR", PERCENT),
    ("fox_published_meteor", "METEOR as published", PERCENT),
)
DOCUMENT: tuple[Column, ...] = (
    ("document_text_edit", "text edit", RATE),
    ("document_formula_edit", "formula edit", RATE),
    ("document_table_edit", "table edit", RATE),
    ("document_table_teds", "table TEDS", PERCENT),
    ("document_table_teds_structure", "TEDS-S", PERCENT),
    ("document_order_edit", "order edit", RATE),
)
SIZES: tuple[Column, ...] = (
    ("pages", "pages", PLAIN),
    ("vision_tokens", "vision tokens", "number"),
    ("text_tokens", "text tokens, mean", "number"),
    ("compression", "compression", "ratio"),
)


def cells_of(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Titles and cells of the columns that any row has a figure for."""
    kept = [column for column in columns if any(row.get(column[0]) is not None for row in rows)]
    return [title for _, title, _ in kept], [[_cell(row, key, form) for key, _, form in kept] for row in rows]


def _cell(row: Row, key: str, form: str) -> str:
    value = row.get(key)
    if value is None:
        return "–"
    if form == PLAIN:
        return str(value)
    if form == "number":
        return f"{value:.1f}".removesuffix(".0")
    if form == "ratio":
        return f"{value:.1f} ×" if value >= 1 else f"{value:.2f} ×"
    bounds = row.get(f"{key}_interval")
    scale, digits = {PERCENT: (100, 1), RATE: (1, 3), "hundred": (1, 1)}[form]
    pages = row.get(f"{key}_pages")
    between = f" ({scale * bounds[0]:.{digits}f}–{scale * bounds[1]:.{digits}f})" if bounds else ""
    return f"{scale * value:.{digits}f}{between}" + (f", {pages} p." if pages else "")


def interval_of(row: Row, key: str) -> str:
    """The interval of a figure and a comma; nothing where there is none."""
    bounds = row.get(f"{key}_interval")
    return f"95 %: {100 * bounds[0]:.0f}–{100 * bounds[1]:.0f}, " if bounds else ""
