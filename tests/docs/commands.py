"""The commands of the documentation: what README.md and docs/*.md tell a reader to type, each with its place.

A command stands in a ```sh block: one a line, continued by a backslash, with its comment behind it. `a; b` and `a && b`
are two commands. What a page prints stands in ```text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LIVING = [page for page in PAGES if page.name != "journal.md"]  # the journal tells what was true when it was written
_FENCE = re.compile(r"\s*(```+|~~~+)\s*([\w+-]*)")


@dataclass(frozen=True)
class Command:
    """One command. text: as it is typed, without its comment. place: "README.md:26"."""

    text: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def documented() -> list[Command]:
    """Every command of every page, in the order of reading; once where pages repeat one, in whatever order of its words."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for number, line in shell_lines(page.read_text()):
            for text in simple_commands(line):
                found.setdefault(" ".join(sorted(text.split())), Command(text, f"{page.relative_to(ROOT)}:{number}"))
    return list(found.values())


def blocks(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """(number of its first line, language, lines) of each fenced block of a page; "" is a block without a language."""
    start, language, fence, lines = 0, "", "", list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if mark and not fence:
            start, fence, language, lines = number + 1, mark[1], mark[2], []
        elif mark and mark[1].startswith(fence) and not mark[2]:
            yield start, language, lines
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"the block that begins at line {start} has no end"


def shell_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of what the ```sh blocks of a page hold, continued lines as one."""
    for start, language, lines in blocks(text):
        if language != "sh":
            continue
        begun: list[str] = []
        for number, line in enumerate(lines, start):
            begun.append(line.removesuffix("\\").strip() if line.endswith("\\") else line.strip())
            if not line.endswith("\\"):
                yield number - len(begun) + 1, " ".join(begun)
                begun = []
        assert not begun, f"the block that begins at line {start} ends with a backslash"


def simple_commands(line: str) -> Iterator[str]:
    """What a shell would run one after the other, without comments. Quotes and $(…) keep what is in them together."""
    begun, quote, depth = "", "", 0
    for index, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "()":
            depth += 1 if letter == "(" else -1
        elif depth == 0 and letter == "#" and (not begun or begun.endswith(" ")):
            break
        elif depth == 0 and (letter == ";" or line[index : index + 2] == "&&" or line[index - 1 : index + 1] == "&&"):
            yield from [begun.strip()] if begun.strip() else []
            begun = ""
            continue
        begun += letter
    yield from [begun.strip()] if begun.strip() else []
