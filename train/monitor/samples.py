"""What a run read from a few held-out pages, evaluation by evaluation: `samples/step-XXXXXXXX/` in its folder.

Each holds samples.jsonl (a row a page: source, key, reference, read, precision, edit_distance), the pages as PNG, and
index.html, which shows them beside what was read. Loads no torch.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from train.evaluate.metrics.text import edit_distance, precision
from train.report.html import document, header
from train.report.reading import LEGEND, reading_cards
from train.run_folder import read_rows, write_text, written_whole

SAMPLES = "samples"
ROWS = "samples.jsonl"


@dataclass(frozen=True)
class Page:
    """A page, what it says, and what was read from it."""

    source: str
    key: str
    picture: Path
    reference: str
    read: str

    @property
    def precision(self) -> float:
        """1 minus the edit distance over the longer text, in [0, 1]."""
        return precision(self.reference, self.read)

    @property
    def edit_distance(self) -> float:
        """Normalised, in [0, 1]: 0 is a perfect reading."""
        return edit_distance(self.reference, self.read)


def folder_of(run_folder: Path, step: int) -> Path:
    """Where the pages of this step's evaluation are."""
    return run_folder / SAMPLES / f"step-{step:08d}"


def write_pages(run_folder: Path, step: int, pages: Sequence[tuple[Page, np.ndarray]]) -> None:
    """Writes the pages of one evaluation with their pictures, uint8 [height, width] or [height, width, 3], all or none."""
    target = folder_of(run_folder, step)
    shutil.rmtree(target, ignore_errors=True)  # of work that was lost, and is done again
    rows = []
    with written_whole(target) as working:
        for page, picture in pages:
            Image.fromarray(picture).save(working / page.picture.name)
            rows.append(_row(page, step))
        write_text(working / ROWS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        shown = [page for page, _ in pages]
        write_text(working / "index.html", _html(run_folder.name, step, shown, working))


def read_pages(folder: Path) -> list[Page]:
    """The pages of one evaluation."""
    return [
        Page(row["source"], row["key"], folder / row["page"], row["reference"], row["read"])
        for row in read_rows(folder / ROWS)
    ]


def forget_after(run_folder: Path, step: int) -> None:
    """Removes the samples of later steps: they will be read again."""
    for found in (run_folder / SAMPLES).glob("step-*"):
        if int(found.name.removeprefix("step-")) > step:
            shutil.rmtree(found, ignore_errors=True)


def cards(pages: Sequence[Page], folder: Path) -> str:
    """The pages beside what was read, as HTML; `folder` is where their pictures are now."""
    samples = [
        {
            "source": page.source, "page": page.picture.name, "reference": page.reference, "hypothesis": page.read,
            "precision": page.precision, "choice": page.key,
        }
        for page in pages
    ]  # fmt: skip
    return LEGEND + reading_cards(samples, folder, {})


def _row(page: Page, step: int) -> dict[str, object]:
    return {
        "step": step, "source": page.source, "key": page.key, "page": page.picture.name, "reference": page.reference,
        "read": page.read, "precision": page.precision, "edit_distance": page.edit_distance,
    }  # fmt: skip


def _html(name: str, step: int, pages: Sequence[Page], folder: Path) -> str:
    mean = sum(page.precision for page in pages) / len(pages)
    headline = f"Step {step:,}: {100 * mean:.0f} % of {len(pages)} held-out pages"
    top = header(f"run “{name}”", headline, "The same pages at every evaluation, read greedily from their vision tokens alone.")
    return document(f"{name}, step {step}", [top, cards(pages, folder)])
