"""Pages to evaluate on, in the formats of others: `READERS[format](folder)`."""

from collections.abc import Callable
from pathlib import Path

from train.evaluate.formats.folder import read_folder
from train.evaluate.formats.fox import read_fox
from train.evaluate.formats.omnidocbench import read_omnidocbench
from train.evaluate.formats.page import Page, PageFolder

__all__ = ["READERS", "Page", "PageFolder"]

READERS: dict[str, Callable[[Path], PageFolder]] = {
    "fox": read_fox,
    "omnidocbench": read_omnidocbench,
    "folder": read_folder,
}
