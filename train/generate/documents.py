"""Which documents and pages the command's `image=` and `pages=` mean, and what each document's text is called.

A document is a picture, a PDF, or a TIFF of several pages.
"""

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conf.errors import ConfigError
from data_pipeline.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2")
SUFFIXES = (
    *PICTURES,
    ".pdf",
)  # what is taken out of a folder; a file that is named itself may be called anything


@dataclass(frozen=True)
class Found:
    """A file as the user's path leads to it, and its place below what was asked for: the folder, or the part of a
    pattern without a star.
    """

    path: Path
    place: Path


@dataclass(frozen=True)
class Document:
    """A file whose `pages` (numbers from 1) are read. size, modified: bytes and nanoseconds, by which a file that has
    changed is noticed.
    """

    found: Found
    pages: tuple[int, ...]
    count: int
    size: int
    modified: int

    @property
    def source(self) -> str:
        """The file, whatever the current folder."""
        return str(self.found.path.resolve())

    def page_name(self, page: int) -> str:
        """As messages call it: "scans/a.pdf, page 3", "scans/b.png"."""
        return f"{self.found.path}, page {page}" if self.count > 1 else str(self.found.path)


@dataclass(frozen=True)
class Failure:
    """What could not be read, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def find(inputs: Sequence[str]) -> list[Found]:
    """The files that `inputs` name, each once: files, all pictures and PDFs below folders, what patterns match.

    Raises ConfigError for an input that names nothing.
    """
    found: dict[Path, Found] = {}
    for text in inputs:
        for item in _named(text):
            found.setdefault(item.path.resolve(), item)
    if not found:
        raise ConfigError("image=[]: give a picture, a PDF, a folder of them, or a quoted pattern")
    return list(found.values())


def _named(text: str) -> list[Found]:
    path = Path(text)
    if path.is_dir():
        inside = _inside(path, path)
        if not inside:
            raise ConfigError(f"image={text}: no picture and no PDF in this folder ({' '.join(SUFFIXES)})")
        return inside
    if path.is_file():
        return [Found(path, Path(path.name))]
    parts = text.split(",")
    if len(parts) > 1 and all(glob.glob(part, recursive=True) for part in parts):
        return [item for part in parts for item in _named(part)]
    root = _without_magic(path)
    found: list[Found] = []
    for name in sorted(map(Path, glob.glob(text, recursive=True))):
        found += _inside(name, root) if name.is_dir() else [Found(name, name.relative_to(root))]
    if not found:
        raise ConfigError(f"image={text}: no such file" + (" matches" if glob.has_magic(text) else ""))
    return found


def _inside(folder: Path, root: Path) -> list[Found]:
    files = (
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return [Found(path, path.relative_to(root)) for path in files]


def _without_magic(pattern: Path) -> Path:
    """The folder in which a pattern's first star is."""
    root = Path(pattern.anchor)
    for part in pattern.parts[len(root.parts) : -1]:
        if glob.has_magic(part):
            break
        root /= part
    return root


def chosen(choice: str | None, count: int) -> tuple[int, ...]:
    """The numbers, of 1 to `count`, that `pages=choice` means; all for None. Raises ConfigError for what is no choice."""
    if choice is None:
        return tuple(range(1, count + 1))
    numbers: set[int] = set()
    for part in choice.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(-)?\s*(\d+)?\s*", part)
        if not match or (match[3] and not match[2]):
            raise ConfigError(f"pages={choice}: write numbers and ranges, such as 1-3,7 or 5-")
        first = int(match[1])
        last = int(match[3]) if match[3] else (count if match[2] else first)
        if first < 1 or (match[3] and last < first):
            raise ConfigError(f"pages={choice}: {part.strip()} is no range of pages; the first one is 1")
        numbers.update(range(first, min(last, count) + 1))
    return tuple(sorted(numbers))


def survey(
    found: Iterable[Found], choice: str | None, count_pages: Callable[[Path], int]
) -> tuple[list[Document], list[Failure]]:
    """The documents with the pages to read of each, and those that cannot be opened or have none of these pages."""
    documents, failures = [], []
    for item in found:
        try:
            status = item.path.stat()
            count = count_pages(item.path)
            pages = chosen(choice, count) if count > 1 or item.path.suffix.lower() == ".pdf" else (1,)
            if not pages:
                raise DataError(f"has {count} page{'s' * (count > 1)}, none of pages={choice}; choose others")
        except (DataError, OSError) as error:
            failures.append(Failure(str(item.path), getattr(error, "strerror", None) or str(error)))
            continue
        documents.append(Document(item, pages, count, status.st_size, status.st_mtime_ns))
    return documents, failures


def names(documents: Sequence[Document], before: Mapping[str, str], taken: Iterable[str]) -> dict[str, str]:
    """What the text of each document (by `source`) is called below the output folder, without ".md"; no two alike.

    before: names given earlier, which stay. taken: names of files that are not ours. A document is called by its place,
    "letters/a"; where that would be another's name too, by more of its path, until it differs.
    """
    result = {document.source: before[document.source] for document in documents if document.source in before}
    used = {name.casefold() for name in (*before.values(), *taken)}
    waiting = [document for document in documents if document.source not in result]
    for level in range(4):
        wanted = {document.source: _name(document, level) for document in waiting}
        counts = Counter(name.casefold() for name in wanted.values())
        for source, name in wanted.items():
            if counts[name.casefold()] == 1 and name.casefold() not in used:
                result[source] = name
                used.add(name.casefold())
        waiting = [document for document in waiting if document.source not in result]
    return result


def _name(document: Document, level: int) -> str:
    """0: "a", 1: "a.png", 2: "letters/a" for what was asked for as letters/a.png, 3: one with a hash of its path."""
    place, source = document.found.place, Path(document.source)
    if level == 0:
        return str(place.with_suffix(""))
    if level == 1:
        return str(place)
    if level == 2:
        above = source.parents[len(place.parts) - 1].name
        return str(Path(above) / place.with_suffix(""))
    return f"{place.with_suffix('')}-{hashlib.sha256(document.source.encode()).hexdigest()[:8]}"
