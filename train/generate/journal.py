"""What was read so far, page by page, in the output folder: JSON lines that a kill can at most shorten by one.

`journal.jsonl` begins with the settings that decide the texts, then has a line for each document (its name) and each
page (its outcome). Further data-parallel processes write journals of their own, `journal.1.jsonl`, and so on; a later
call reads all of them, in whatever number of processes it runs.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.errors import ConfigError
from train.generate.documents import Document
from train.generate.outcome import Outcome, outcome_of

FIRST = "journal.jsonl"
PageKey = tuple[str, int, int, int]  # source, size and modification of the document, page


@dataclass
class Kept:
    """What the journals of a folder say."""

    settings: dict[str, Any] | None = None
    names: dict[str, str] = field(default_factory=dict)  # by document
    outcomes: dict[PageKey, Outcome] = field(default_factory=dict)


def page_key(document: Document, page: int) -> PageKey:
    """By which a page is known again, as long as its file is unchanged."""
    return document.source, document.size, document.modified, page


def read_journals(folder: Path, with_failures: bool = False) -> Kept:
    """All journals of a folder; empty where there is none. Lines that are not whole are left out; pages that failed, too,
    unless `with_failures`.
    """
    kept = Kept()
    for path in sorted(folder.glob("journal*.jsonl")):
        for line in _lines(path):
            if "settings" in line:
                kept.settings = line["settings"]
            elif "name" in line:
                if _stays_inside(line["name"]):
                    kept.names[line["document"]] = line["name"]
            else:
                with suppress(KeyError, TypeError):
                    outcome = outcome_of(line)
                    if with_failures or outcome.kind != "failed":
                        key = (line["document"], line["size"], line["modified"], line["page"])
                        kept.outcomes[key] = outcome
    return kept


def _stays_inside(name: object) -> bool:
    """Whether a text is written into the folder itself under this name."""
    return isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_bytes().split(b"\n"):  # str.splitlines would also split at signs within a text
        with suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict):
                yield line


class Journal:
    """Appends to one journal of `folder`. Raises ConfigError where another process does so, too."""

    def __init__(self, folder: Path, number: int = 0) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (f"journal.{number}.jsonl" if number else FIRST)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"out={folder}: another process is writing there; wait for it, or choose another folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        self._file.seek(max(self._file.seek(0, 2) - 1, 0))
        if self._file.read(1) not in (b"", b"\n"):  # a killed process stopped within a line
            self._file.write(b"\n")

    def start_anew(self, settings: dict[str, Any], names: Mapping[str, str]) -> None:
        """Forgets all pages of all journals; documents keep their names. For the first journal."""
        for path in self.folder.glob("journal.*.jsonl"):
            path.unlink()
        self._file.truncate(0)
        self.write({"settings": settings})
        for source, name in names.items():
            self.write({"document": source, "name": name})

    def write(self, line: Mapping[str, Any]) -> None:
        """One line; it outlives this process as soon as this returns."""
        self._file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
        self._file.flush()

    def write_page(self, document: Document, page: int, outcome: Outcome) -> None:
        """The line of a page."""
        key = dict(zip(("document", "size", "modified", "page"), page_key(document, page), strict=True))
        self.write(key | outcome.fields())

    def close(self) -> None:
        """Ends it."""
        self._file.close()


def begin(journal: Journal, settings: dict[str, Any], restart: bool) -> Kept:
    """What is kept in the folder of the first journal by an earlier call with these settings; with `restart` nothing but
    the names.

    Raises ConfigError, telling what differs, where the pages there were read with other settings.
    """
    kept = read_journals(journal.folder)
    if restart or kept.settings is None:
        journal.start_anew(settings, kept.names)
        return Kept(settings, kept.names)
    before = kept.settings
    changed = [
        f"{name}: {before.get(name)} → {settings.get(name)}"
        for name in sorted({*before, *settings})
        if before.get(name) != settings.get(name)
    ]
    if changed:
        raise ConfigError(
            f"out={journal.folder} holds pages that were read with other settings:\n  "
            + "\n  ".join(changed)
            + "\nChoose restart=true to read all of them again, or another out= to keep both."
        )
    return kept
