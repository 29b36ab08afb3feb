"""Any sample of a shard set by number: read by offset, checked against its crc32, no tar to walk through."""

import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError, SampleError
from data_pipeline.index import IndexEntry, ShardIndex, build_index
from data_pipeline.manifest import Manifest, ShardEntry, file_digest
from data_pipeline.record import Record, decode

_OPEN_SHARDS = 64  # files and indices kept at hand: more than a shuffle window of every source of a mixture


class ShardReader:
    """Reads the samples of one shard set (`folder`, known as the source `name`).

    A missing or truncated shard is found at once, by its size; the share of samples lost this way may be at
    most `max_bad_fraction`, else DataError. Everything else is found when a sample is read. Not for use by
    two threads.
    """

    def __init__(self, name: str, folder: Path, max_bad_fraction: float = 0.0) -> None:
        self.name = name
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        if not self.manifest.samples:
            raise DataError(f"{self.folder} (source {name}) holds no samples; build it with more pages")
        self._lost: dict[int, SampleError] = {}  # shards that cannot be read at all, by number
        self._open: OrderedDict[int, tuple[int, ShardIndex]] = (
            OrderedDict()
        )  # (file descriptor, index), oldest first
        for number, shard in enumerate(self.manifest.shards):
            self._check_size(number, shard)
        self._refuse_loss(max_bad_fraction)

    def read(self, shard: int, sample: int) -> dict[str, Any]:
        """The raw webdataset sample {"__key__", "png": bytes, ...}; SampleError when it is not what was
        written.
        """
        descriptor, entry = self._locate(shard, sample)
        data = {name: self._part(descriptor, entry, shard, name) for name in entry.parts}
        checksum = 0
        for part in data.values():
            checksum = zlib.crc32(part, checksum)
        if checksum != entry.crc32:
            raise SampleError("checksum", f"{self._path(shard)}: {entry.key}: checksum differs")
        return {"__key__": entry.key, **data}

    def key(self, shard: int, sample: int) -> str:
        """The sample's key, or its number where not even the index can be read."""
        try:
            return self._locate(shard, sample)[1].key
        except SampleError:
            return f"#{sample}"

    def close(self) -> None:
        """Close the shards; reading again opens them again."""
        while self._open:
            os.close(self._open.popitem()[1][0])

    def _locate(self, shard: int, sample: int) -> tuple[int, IndexEntry]:
        """The open file of a shard and the index entry of one of its samples."""
        if shard in self._lost:
            raise self._lost[shard]
        if shard not in self._open:
            try:
                self._open[shard] = self._open_shard(shard)
            except SampleError as error:
                self._lost[shard] = error
                raise
            if len(self._open) > _OPEN_SHARDS:
                os.close(self._open.popitem(last=False)[1][0])
        self._open.move_to_end(shard)
        descriptor, index = self._open[shard]
        return descriptor, index.samples[sample]

    def _open_shard(self, shard: int) -> tuple[int, ShardIndex]:
        entry = self.manifest.shards[shard]
        index = self._load_index(entry)
        try:
            return os.open(self.folder / entry.name, os.O_RDONLY), index
        except OSError as error:
            raise SampleError("unreadable shard", f"{self._path(shard)}: {error.strerror}") from None

    def _load_index(self, entry: ShardEntry) -> ShardIndex:
        """The shard's index; a lost or stale one is made again, if the shard is what the manifest says."""
        path = self.folder / entry.name
        try:
            index = ShardIndex.load(path)
            if len(index.samples) == entry.samples:
                return index
        except DataError:
            pass  # made again below
        try:
            if file_digest(path) == entry.sha256:
                index = build_index(path)
                if len(index.samples) == entry.samples:
                    return index
        except (OSError, DataError) as error:
            raise SampleError("unreadable shard", f"{path}: {error}") from None
        raise SampleError("damaged shard", f"{path}: is not what the manifest lists, and has no index")

    def _part(self, descriptor: int, entry: IndexEntry, shard: int, name: str) -> bytes:
        offset, size = entry.parts[name]
        if offset < 0 or size < 0 or offset + size > self.manifest.shards[shard].bytes:
            raise SampleError(
                "damaged index", f"{self._path(shard)}: {entry.key}.{name} lies outside the shard"
            )
        try:
            data = os.pread(descriptor, size, offset)
        except OSError as error:
            raise SampleError("unreadable shard", f"{self._path(shard)}: {error.strerror}") from None
        if len(data) != size:
            raise SampleError("truncated shard", f"{self._path(shard)}: ends before {entry.key}.{name}")
        return data

    def _check_size(self, number: int, shard: ShardEntry) -> None:
        try:
            size = (self.folder / shard.name).stat().st_size
        except OSError:
            self._lost[number] = SampleError("missing shard", f"{shard.name} is missing")
            return
        if size != shard.bytes:
            found = f"{size} of {shard.bytes} bytes"
            self._lost[number] = SampleError(
                "truncated shard", f"{shard.name} is truncated or changed ({found})"
            )

    def _refuse_loss(self, max_bad_fraction: float) -> None:
        lost = sum(self.manifest.shards[number].samples for number in self._lost)
        if lost > max_bad_fraction * self.manifest.samples:
            named = "; ".join(str(error) for error in list(self._lost.values())[:5])
            more = f" and {len(self._lost) - 5} more" if len(self._lost) > 5 else ""
            raise DataError(
                f"{self.folder} (source {self.name}): {lost} of {self.manifest.samples} samples are lost: "
                f"{named}{more}. "
                f"Build or copy the shards again, or accept it with data.max_bad_fraction="
                f"{lost / self.manifest.samples:.2g} or more"
            )

    def _path(self, shard: int) -> Path:
        return self.folder / self.manifest.shards[shard].name


def records(folder: Path, limit: int | None = None) -> Iterator[Record]:
    """The records of a shard set in the order they were written, at most `limit`; DataError at the first bad
    one.
    """
    reader = ShardReader(Path(folder).name, folder)
    try:
        places = (
            (number, sample)
            for number, shard in enumerate(reader.manifest.shards)
            for sample in range(shard.samples)
        )
        for count, place in enumerate(places):
            if count == limit:
                return
            yield decode(reader.read(*place))
    finally:
        reader.close()
