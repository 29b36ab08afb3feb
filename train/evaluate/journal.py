"""What was read, page by page, in OUT/readings.jsonl: an evaluation that is stopped goes on where it was.

A line belongs to everything that a reading depends on: the checkpoint's bytes, the mode, how text was chosen, and the
page. Another checkpoint or other options never meet its lines; they are read anew, beside them. When an evaluation is
complete the file holds its own readings only: the evidence for its figures.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from train.evaluate.pages import PageToRead
from train.generate.decoding import Reading
from train.run_folder import write_text

NAME = "readings.jsonl"


class Journal:
    """The readings that are there, by id, and a file of this rank's own to which new ones are added.

    settings: what all readings of this evaluation depend on. found: what `load` gave, on every rank.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], found: Mapping[str, dict[str, Any]], rank: int
    ) -> None:
        self._settings = json.dumps(settings, sort_keys=True, default=str)
        self._rows = dict(found)
        self._used: dict[str, dict[str, Any]] = {}
        self._folder, self._path = folder, folder / (NAME if rank == 0 else f"readings.rank-{rank}.jsonl")

    def get(self, page: PageToRead, mode: str, limit: int) -> Reading | None:
        """What was read of this page before, under the same conditions."""
        row = self._rows.get(self._id(page, mode, limit))
        if row is None:
            return None
        return Reading(str(row["text"]), bool(row["finished"]), int(row["tokens"]))

    def add(self, pages: Iterable[tuple[PageToRead, Reading]], mode: str, limit: int) -> None:
        """Keeps readings of this rank, on disk when this returns."""
        rows = [self._row(page, reading, mode, limit) for page, reading in pages]
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())

    def use(self, page: PageToRead, reading: Reading, mode: str, limit: int) -> None:
        """Notes a reading, whoever made it, as one that this evaluation's figures are made of."""
        row = self._row(page, reading, mode, limit)
        self._used[row["id"]] = row

    def finish(self) -> None:
        """Rank 0: the file of this evaluation's readings takes the place of all ranks' files."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self._used.values())
        write_text(self._folder / NAME, text)
        for path in self._folder.glob("readings.rank-*.jsonl"):
            path.unlink()

    def _row(self, page: PageToRead, reading: Reading, mode: str, limit: int) -> dict[str, Any]:
        return {
            "id": self._id(page, mode, limit), "mode": mode, "source": page.source, "key": page.key,
            "text": reading.text, "finished": reading.finished, "tokens": reading.tokens,
        }  # fmt: skip

    def _id(self, page: PageToRead, mode: str, limit: int) -> str:
        told = "\0".join(
            [self._settings, mode, str(limit), page.source, page.key, page.identity, page.reference]
        )
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """The whole lines of all ranks' files, by id; a half-written last one is left out."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("readings*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                rows[row["id"]] = {name: row[name] for name in ("text", "finished", "tokens")} | row
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
    return rows
