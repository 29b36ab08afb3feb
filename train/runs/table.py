"""The table that people see."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from train.monitor.console import duration
from train.runs.row import Row

COLOURS = {"running": "cyan", "finished": "green", "stopped": "yellow", "failed": "red", "lost": "magenta"}
COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("run", "left"), ("state", "left"), ("step", "right"), ("loss", "right"), ("image gain", "right"), ("pages/s", "right"),
    ("layout", "left"), ("saved", "right"), ("restarts", "right"), ("size", "right"), ("last sign", "right"), ("why", "left"),
)  # fmt: skip
DISPENSABLE = ("size", "layout", "restarts", "pages/s", "saved", "last sign")  # left out of a narrow terminal, in this order
SPACES, NARROWEST_WHY, IN_FILES = 2, 24, 200  # columns between two, of a reason, of what is no terminal
LAST = float("inf")  # what is not known comes last
KEYS: dict[str, Callable[[Row], Any]] = {
    "name": lambda row: 0,  # as they were found: by name, stages in their order
    "updated": lambda row: row.silent,
    "step": lambda row: LAST if row.step is None else row.step,
    "loss": lambda row: LAST if row.loss is None else row.loss,
    "image_gain": lambda row: LAST if row.image_gain is None else row.image_gain,
    "bytes": lambda row: row.bytes,
}


def chosen(rows: Sequence[Row], state: str | None, sort: str) -> list[Row]:
    """Those in a state, in an order of KEYS; the newest is first by "updated"."""
    kept = [row for row in rows if state is None or row.state == state]
    return sorted(kept, key=KEYS[sort])


def show(rows: Sequence[Row], folder: Path, console: Console | None = None) -> None:
    """Prints the rows, a recipe's stages set in below it."""
    console = console or Console(highlight=False)
    if not console.is_terminal and console.file is sys.stdout:
        console.width = IN_FILES
    if not rows:
        console.print(f"No run in {folder}.", markup=False)
        return
    listed = {row.name for row in rows}
    lines = [_cells(row, nested=row.recipe in listed) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="dim")
    shown = _fitting(lines, console.width)
    for name, justify in (COLUMNS[index] for index in shown):
        table.add_column(name, justify=justify, no_wrap=name != "why", overflow="fold")
    for line in lines:
        table.add_row(*(line[index] for index in shown))
    console.print(table)


def _fitting(lines: Sequence[Sequence[Text]], width: int) -> list[int]:
    """The columns that have something to say, as far as a line is long enough for them."""
    needed = {
        index: max(len(name), *(line[index].cell_len for line in lines))
        for index, (name, _) in enumerate(COLUMNS)
        if any(line[index].plain for line in lines)
    }
    names = {name: index for index, (name, _) in enumerate(COLUMNS)}
    needed = {index: min(size, NARROWEST_WHY) if index == names["why"] else size for index, size in needed.items()}
    for name in DISPENSABLE:
        if sum(needed.values()) + SPACES * len(needed) > width:
            needed.pop(names[name], None)
    return list(needed)


def _cells(row: Row, nested: bool) -> list[Text]:
    name = f"  {row.stage}" if nested else row.name
    return [
        _text(name),
        _text(row.state, COLOURS.get(row.state, "")),
        _text(
            "" if row.step is None else f"{row.step}/{'?' if row.total_steps is None else row.total_steps}"
        ),
        _text(_figure(row.loss, ".3f")),
        _text(_figure(row.image_gain, ".2f")),
        _text(_figure(row.pages_per_second, ".0f")),
        _text(row.layout),
        _text("" if row.saved is None else str(row.saved)),
        _text(str(row.restarts) if row.restarts else ""),
        _text(_size(row.bytes)),
        _text(ago(row.silent)),
        _text(row.why),
    ]


def ago(seconds: float) -> str:
    """ "2 h", "3 d": what a glance wants to know."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return duration(seconds)


def _text(words: str, style: str = "") -> Text:
    """Words out of files, as they are but for what would move a terminal's cursor."""
    return Text("".join(letter if letter.isprintable() else "�" for letter in words), style=style)


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _size(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
