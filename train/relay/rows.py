"""What a run has written since the last look, in the order of its steps."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from train.monitor.samples import SAMPLES, Page, read_pages
from train.run_folder import WEIGHT_DECOMPOSITION

MEASURED = ("magnitude", "direction", "correlation")  # of a weight, since the stage began


class Rows:
    """Reads on where it stopped, in metrics.jsonl, weight_decomposition.jsonl and samples/. Steps up to `after` are left out."""

    def __init__(self, folder: Path, after: int = 0) -> None:
        self.folder, self._after = folder, after
        self._metrics = Tail(folder / "metrics.jsonl")
        self._weights = Tail(folder / WEIGHT_DECOMPOSITION)
        self._shown: set[str] = set()

    def new(self) -> list[tuple[int, Mapping[str, Any]]]:
        """(step, values) in order; a value is a number, or the pages of one evaluation.

        metrics.jsonl is read first: whatever belongs to a step before its last one has then been written elsewhere, too.
        """
        rows: list[tuple[int, Mapping[str, Any]]] = [(int(row["step"]), numbers(row)) for row in self._metrics.new()]
        rows += [(int(row["step"]), of_weight(row)) for row in self._weights.new()]
        rows += self._samples()
        return sorted((row for row in rows if row[0] > self._after and row[1]), key=lambda row: row[0])

    def _samples(self) -> Iterator[tuple[int, Mapping[str, list[Page]]]]:
        for found in sorted((self.folder / SAMPLES).glob("step-*")):
            if found.name not in self._shown:
                self._shown.add(found.name)
                yield int(found.name.removeprefix("step-")), {SAMPLES: read_pages(found)}


class Tail:
    """The whole lines that were added to a file; a line that is no row is left out. No file is no line yet."""

    def __init__(self, path: Path) -> None:
        self._path, self._place = path, 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Rows with a step."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._place += len(line)
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    yield row


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn of a row of metrics.jsonl: no notes, and nothing that had no value."""
    return {name: value for name, value in row.items() if name != "step" and isinstance(value, (int, float))}


def of_weight(row: Mapping[str, Any]) -> dict[str, float]:
    """A row of weight_decomposition.jsonl under the names that metrics have."""
    return numbers({f"weight_{name}/{row['layer']}": row.get(name) for name in MEASURED})
