"""What a run read from the same few held-out pages while it trained (logger.samples)."""

from collections.abc import Sequence
from pathlib import Path

from train.monitor.samples import SAMPLES, Page, read_pages
from train.report.html import section, table
from train.report.reading import LEGEND, reading_cards
from train.report.run import Run

ROWS = 8  # evaluations that are listed at most, the last one among them
SHORT = 90  # characters of a reading in the list


def while_training_section(run: Run) -> str:
    """Of the last stage that read pages: how the first one was read over time, and all pages at the end; nothing without."""
    stages = [stage.folder for stage in run.stages if list((stage.folder / SAMPLES).glob("step-*"))]
    if not stages:
        return ""
    looks = [(look, read_pages(look)) for look in sorted((stages[-1] / SAMPLES).glob("step-*"))]
    looks = [(look, pages) for look, pages in looks if pages]
    if not looks:
        return ""
    (folder, last), listed = looks[-1], looks[:: -max(1, -(-len(looks) // ROWS))][::-1]
    rows = [(_step(look), f"{100 * _mean(pages):.0f} %", _short(pages[0].read)) for look, pages in listed]
    text = (
        f"The same {len(last)} held-out pages at every evaluation of “{stages[-1].name}”, read greedily by the model as it was; "
        f"the list shows the first of them, which says “{_short(last[0].reference)}”, the cards all of them after step {_step(folder)}."
    )
    return section("Pages read while training", text, table(("step", "precision, all pages", "what the first one was read as"), rows) + cards(last, folder))


def cards(pages: Sequence[Page], folder: Path) -> str:
    """Pages beside what was read, as HTML; `folder` is where their pictures are now."""
    samples = [
        {
            "source": page.source, "page": page.picture.name, "reference": page.reference, "hypothesis": page.read,
            "precision": page.precision, "choice": page.key,
        }
        for page in pages
    ]  # fmt: skip
    return LEGEND + reading_cards(samples, folder, {})


def _step(look: Path) -> str:
    return f"{int(look.name.removeprefix('step-')):,}"


def _mean(pages: Sequence[Page]) -> float:
    return sum(page.precision for page in pages) / len(pages)


def _short(text: str) -> str:
    whole = " ".join(text.split())
    return whole if len(whole) <= SHORT else whole[:SHORT] + "…"
