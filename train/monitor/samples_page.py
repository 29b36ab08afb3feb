"""Writes what a run read from a few held-out pages: rows, pictures, and a page that shows both."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from train.monitor.samples import ROWS, Page, folder_of
from train.report.html import document, header
from train.report.while_training import cards
from train.run_folder import write_text, written_whole


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
