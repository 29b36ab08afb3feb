"""The pages of many documents through the model, and each document's text to where it belongs."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np

from data_pipeline.errors import DataError
from train.generate.ahead import batches, mapped_ahead
from train.generate.documents import Document, Failure
from train.generate.outcome import Outcome, Tally
from train.generate.pages import is_blank, open_page

if TYPE_CHECKING:
    from tqdm import tqdm

AHEAD = 2  # batches that are open or being opened before the model asks for them
WAITING = 3  # batches that may wait for pages of their length


@dataclass(frozen=True)
class Task:
    """One page of a document."""

    document: Document
    page: int

    @property
    def name(self) -> str:
        """As messages call it."""
        return self.document.page_name(self.page)


class PageReader(Protocol):
    """What reads pages; `train.generate.reader.Reader` does."""

    def length(self, page: np.ndarray) -> int:
        """Positions that a page takes. Raises DataError where there is no room for its text."""

    def read(self, pages: Sequence[np.ndarray]) -> list[Outcome]:
        """What became of some pages, read together."""


class Outlet(Protocol):
    """Where outcomes go."""

    def put(self, task: Task, outcome: Outcome) -> None:
        """Takes one outcome; they come in any order."""


@dataclass(frozen=True)
class Opened:
    """A page as pixels, or what became of it without being read; `length` as the reader counts it."""

    task: Task
    page: np.ndarray | None = None
    length: int = 0
    outcome: Outcome | None = None


def read_all(
    tasks: Sequence[Task],
    reader: PageReader,
    outlet: Outlet,
    batch_size: int,
    dpi: int,
    bar: Callable[[int], object],
) -> Tally:
    """Reads the pages of `tasks`; each outcome goes to `outlet`, and is told on stderr where somebody should look at it.

    bar: gets the number of pages just done. What was put is kept, whatever ends this.
    """
    tally, started = Tally(), time.monotonic()

    def done(task: Task, outcome: Outcome) -> None:
        tally.add(outcome)
        outlet.put(task, outcome)
        tell(task.name, outcome)
        bar(1)

    opened = mapped_ahead(lambda task: opened_page(task, reader, dpi), tasks, AHEAD * batch_size)
    readable = _without_outcome(opened, done)
    for batch in batches(readable, lambda item: item.length, batch_size, WAITING * batch_size):
        pages = [item.page for item in batch if item.page is not None]
        for item, outcome in zip(batch, reader.read(pages), strict=True):
            done(item.task, outcome)
        tally.seconds = time.monotonic() - started
    tally.seconds = time.monotonic() - started
    return tally


def opened_page(task: Task, reader: PageReader, dpi: int) -> Opened:
    """The page of a task, unless it is blank or cannot be read."""
    try:
        page = open_page(task.document.found.path, task.page, dpi)
        if is_blank(page):
            return Opened(task, outcome=Outcome("blank"))
        return Opened(task, page, reader.length(page))
    except (DataError, OSError) as error:
        return Opened(task, outcome=Outcome("failed", reason=getattr(error, "strerror", None) or str(error)))


def _without_outcome(opened: Iterator[Opened], done: Callable[[Task, Outcome], None]) -> Iterator[Opened]:
    for item in opened:
        if item.outcome is None:
            yield item
        else:
            done(item.task, item.outcome)


def tell(name: str, outcome: Outcome) -> None:
    """A line on stderr about a page that failed, was cut, or is blank."""
    if outcome.kind == "failed":
        say(str(Failure(name, outcome.reason)))
    elif outcome.kind == "blank":
        say(f"{name}: is blank; its text is left empty")
    elif outcome.kind == "cut":
        say(f"{name}: {outcome.reason}")


def say(text: str) -> None:
    """A line on stderr, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def bar_of(total: int, hidden: bool = False) -> "tqdm[NoReturn]":
    """A progress bar in pages on stderr, which is no terminal in a batch job: there it moves every half a minute."""
    from tqdm import tqdm

    seconds = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, unit=" pages", smoothing=0.1, mininterval=seconds, disable=hidden or not total)
