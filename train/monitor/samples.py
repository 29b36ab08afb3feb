"""What a run read from a few held-out pages, evaluation by evaluation: `samples/step-XXXXXXXX/` in its folder.

Each holds samples.jsonl (a row a page: source, key, reference, read, precision, edit_distance), the pages as PNG, and
index.html, which shows them beside what was read. Loads no torch.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from train.evaluate.metrics.text import edit_distance, precision
from train.run_folder import read_rows

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
