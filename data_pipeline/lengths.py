"""How many positions each sample of a shard takes in a row, known before a page is decoded: what packing needs.

Measured once a shard, for one tokenizer and one choice of modes, and kept beside it (`shard-00000.lengths-1a2b3c4d.npy`),
or in the user's cache folder where the shard's folder cannot be written to.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from data_pipeline.atomic import atomic_write
from data_pipeline.batch import HOLE_POSITIONS, Collator
from data_pipeline.errors import SampleError
from data_pipeline.page_file import page_size
from data_pipeline.reader import ShardReader
from data_pipeline.record import page_names


class Lengths:
    """Of the samples of one shard set, as `collator` would lay them out."""

    def __init__(self, reader: ShardReader, collator: Collator) -> None:
        self._reader, self._collator = reader, collator
        self._known: dict[int, np.ndarray] = {}

    def of(self, shard: int, sample: int) -> tuple[int, int]:
        """(positions, pages) of a sample; those of a hole for one that cannot be read, or is too long."""
        if shard not in self._known:
            self._known[shard] = self._load(shard)
        positions, pages = self._known[shard][sample]
        return int(positions), int(pages)

    def _load(self, shard: int) -> np.ndarray:
        """int32 [samples, 2]."""
        entry = self._reader.manifest.shards[shard]
        mark = hashlib.sha256(f"{entry.sha256}/{self._collator.digest}".encode()).hexdigest()[:8]
        name = f"{Path(entry.name).stem}.lengths-{mark}.npy"
        folder = self._reader.folder
        places = [*([folder / name] if isinstance(folder, Path) else []), _cache_folder() / name]
        for path in filter(Path.is_file, places):
            try:
                found = np.load(path, allow_pickle=False)
                if found.dtype == np.int32 and self._can_be(found, entry.samples):
                    return found
            except (OSError, ValueError, EOFError, MemoryError):  # a header may say any size
                continue
        measured = np.array([self._measured(shard, number) for number in range(entry.samples)], np.int32)
        _keep(measured.reshape(-1, 2), places)
        return measured.reshape(-1, 2)

    def _can_be(self, found: np.ndarray, samples: int) -> bool:
        """Whether these may be lengths of so many samples: the file lies beside a shard, which may be a stranger's."""
        if found.shape != (samples, 2):
            return False
        positions, pages = found[:, 0], found[:, 1]
        return bool((positions > 0).all() and (positions <= self._collator.spec.max_length).all() and (pages >= 0).all())

    def _measured(self, shard: int, number: int) -> tuple[int, int]:
        hole = HOLE_POSITIONS + self._collator.spec.reserved
        try:
            sample = self._reader.read(shard, number)
            fields = json.loads(sample["json"])
            sizes = [page_size(name.rpartition(".")[2], sample[name]) for name in page_names(sample)]
            positions = self._collator.positions(sample["__key__"], fields["prompt"], fields["target"], sizes)
        except (SampleError, OSError, ValueError, KeyError, TypeError):
            return hole, 0  # what reading it will make of it
        if positions > self._collator.spec.max_length:
            return (hole, 0) if sizes else (self._collator.spec.max_length, 0)
        return positions, len(sizes)


def _keep(measured: np.ndarray, places: list[Path]) -> None:
    """In the first place that can be written to; nowhere is fine too."""
    for path in places:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                np.save(file, measured, allow_pickle=False)
            return
        except OSError:
            continue


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "microfiche" / "lengths"
