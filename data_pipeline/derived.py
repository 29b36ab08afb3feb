"""Shard sets made from others, shard by shard: what a teacher told of them, or the same pages with other texts.

A shard of the derived set has the samples of one shard of the original, as far as they could be used, under the same keys and
in the same order. It appears when it is whole, with a note of what it was made from (`shard-00000.done.json`); after a kill the
same command makes only what is missing. The manifest comes last.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.atomic import atomic_write
from data_pipeline.errors import DataError, SampleError
from data_pipeline.manifest import MANIFEST_NAME, Manifest, ShardEntry, describe_shard, file_digest
from data_pipeline.reader import ShardReader
from data_pipeline.record import Record, decode
from data_pipeline.remote import DEFAULTS, Place, Remote
from data_pipeline.small_file import read_small_json

Refused = Callable[[SampleError], object]


@dataclass(frozen=True)
class Note:
    """What a finished shard holds, and what of the original's samples was refused, by reason."""

    entry: ShardEntry
    made_of: str
    refused: dict[str, int] = field(default_factory=dict)


class DerivedSet:
    """original: the shard set that is read. folder: the new one. facts: all that decides its bytes besides the original's, for
    the manifest. Raises DataError for an original that cannot be read.
    """

    def __init__(
        self, original: Place, folder: Path, facts: Mapping[str, Any], remote: Remote = DEFAULTS
    ) -> None:
        self.reader, self.folder, self.facts = (
            ShardReader(folder.name, original, remote=remote),
            folder,
            dict(facts),
        )
        content = json.dumps([self.reader.manifest.digest(), self.facts], sort_keys=True)
        self.made_of = hashlib.sha256(content.encode()).hexdigest()

    def claim(self, overwrite: bool) -> None:
        """Makes sure that the folder holds nothing, or shards of this very set."""
        self.folder.mkdir(parents=True, exist_ok=True)
        notes = list(self.folder.glob("shard-*.done.json"))
        others = [
            path for path in notes if (note := self._read(path)) is None or note.made_of != self.made_of
        ]
        strangers = not notes and any(self.folder.glob("shard-*.tar"))
        if not (others or strangers):
            return
        if not overwrite:
            raise DataError(
                f"{self.folder} holds shards that were made of other data or with other settings: give another out=, or replace "
                "them with overwrite=true"
            )
        for pattern in (MANIFEST_NAME, "shard-*.done.json", "shard-*.index.json", "shard-*.tar"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def missing(self) -> list[int]:
        """Numbers of the shards that are not there whole."""
        return [number for number in range(len(self.reader.manifest.shards)) if self._kept(number) is None]

    def records(self, shard: int, refused: Refused) -> Iterator[Record]:
        """The samples of a shard of the original; what cannot be used is handed to `refused`."""
        for number in range(self.reader.manifest.shards[shard].samples):
            try:
                yield decode(self.reader.read(shard, number))
            except SampleError as error:
                refused(error)

    def write(self, shard: int, samples: Iterable[Mapping[str, Any]], refused: Counter[str]) -> None:
        """Writes a shard of webdataset samples. refused: of the shard, by reason; complete when `samples` has come to its end."""
        from webdataset import TarWriter

        path = self._path(shard)
        with atomic_write(path) as file:
            writer = TarWriter(file, mtime=0.0)
            for sample in samples:
                writer.write(dict(sample))
            writer.tarstream.close()
        note = Note(describe_shard(path), self.made_of, dict(refused))
        with atomic_write(path.with_suffix(".done.json")) as file:
            file.write(json.dumps(asdict(note)).encode())

    def finish(self) -> Manifest:
        """Writes the manifest; all shards must be there."""
        notes = [note for number in range(len(self.reader.manifest.shards)) if (note := self._kept(number))]
        assert len(notes) == len(self.reader.manifest.shards), f"{self.folder} is not complete"
        refused: Counter[str] = Counter()
        for note in notes:
            refused.update(note.refused)
        original = self.reader.manifest
        manifest = Manifest(
            original.name, original.split, [note.entry for note in notes], dict(refused), sources=original.sources,
            config=self.facts,
        )  # fmt: skip
        manifest.save(self.folder)
        return manifest

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.tar"

    def _kept(self, shard: int) -> Note | None:
        """The note of a shard that is there, whole, and made of this original with these facts."""
        path = self._path(shard)
        note = self._read(path.with_suffix(".done.json"))
        try:
            whole = (
                note is not None and note.made_of == self.made_of and file_digest(path) == note.entry.sha256
            )
        except OSError:
            return None
        return note if whole and path.with_suffix(".index.json").is_file() else None

    @staticmethod
    def _read(path: Path) -> Note | None:
        try:
            content = read_small_json(path)
            return Note(ShardEntry(**content["entry"]), content["made_of"], content["refused"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def folders_of(places: Iterable[Place], out: Path) -> dict[Place, Path]:
    """A folder below `out` for each shard set, called by the last parts of its place that tell it from the others."""
    listed = list(dict.fromkeys(str(place).rstrip("/") for place in places))
    for count in range(1, 9):
        names = ["-".join(place.split("/")[-count:]).replace(":", "") for place in listed]
        if len(set(names)) == len(names):
            break
    return {place: out / name for place, name in zip(listed, names)}
