"""Any sample of a shard set by number: read by offset, checked against its crc32, no tar to walk through."""

import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError, SampleError
from data_pipeline.index import IndexEntry, ShardIndex, build_index
from data_pipeline.manifest import Manifest, ShardEntry, file_digest
from data_pipeline.prefetch import Fetcher
from data_pipeline.record import Record, decode
from data_pipeline.remote import DEFAULTS, Place, Remote, beside, located, shown
from data_pipeline.shard_cache import Elsewhere, ShardCache

_OPEN_SHARDS = 64  # files and indices kept at hand: more than a shuffle window of every source of a mixture
_PIPE = "pipe:"


class ShardReader:
    """Reads the samples of one shard set, known as the source `name`.

    folder: here, or an address (see `remote`): then a shard is copied into the cache when it is first needed, or ahead of
    that when it is `expect`ed. A missing or truncated shard that is here is found at once, by its size; the share of
    samples lost this way may be at most `max_bad_fraction`, else DataError. Everything else is found when a sample is read.
    Not for use by two threads.
    """

    def __init__(
        self, name: str, folder: Place, max_bad_fraction: float = 0.0, remote: Remote = DEFAULTS
    ) -> None:
        self.name = name
        self.folder = located(folder)
        self.manifest = Manifest.load(folder)
        if not self.manifest.samples:
            raise DataError(f"{self._shown()} (source {name}) holds no samples; build it with more pages")
        self._cache = ShardCache(remote)
        self._fetcher: Fetcher[Elsewhere] | None = None
        self._lost: dict[int, SampleError] = {}  # shards that cannot be read at all, by number
        # by number, the one used longest ago first: (file descriptor, index)
        self._open: OrderedDict[int, tuple[int, ShardIndex]] = OrderedDict()
        for number, shard in enumerate(self.manifest.shards):
            self._check_url(shard, remote.allow_pipe)
            place = self._place(shard)
            if isinstance(place, Path):
                self._check_size(number, shard, place)
        self._refuse_loss(max_bad_fraction)

    def read(self, shard: int, sample: int) -> dict[str, Any]:
        """The raw webdataset sample {"__key__", "png": bytes, ...}; SampleError when it is not what was
        written.
        """
        descriptor, entry = self._locate(shard, sample)
        data: dict[str, Any] = {"__key__": entry.key}
        checksum, limit = 0, self.manifest.shards[shard].bytes
        for name, (offset, size) in entry.parts.items():
            if offset < 0 or size < 0 or offset + size > limit:
                raise SampleError(
                    "damaged index", f"{self._shown(shard)}: {entry.key}.{name} lies outside the shard"
                )
            try:
                part = os.pread(descriptor, size, offset)
            except OSError as error:
                raise SampleError("unreadable shard", f"{self._shown(shard)}: {error.strerror}") from None
            if len(part) != size:
                raise SampleError("truncated shard", f"{self._shown(shard)}: ends before {entry.key}.{name}")
            checksum = zlib.crc32(part, checksum)
            data[name] = part
        if checksum != entry.crc32:
            raise SampleError("checksum", f"{self._shown(shard)}: {entry.key}: checksum differs")
        return data

    def key(self, shard: int, sample: int) -> str:
        """The sample's key, or its number where not even the index can be read."""
        try:
            return self._locate(shard, sample)[1].key
        except SampleError:
            return f"#{sample}"

    def expect(self, shards: Sequence[int]) -> None:
        """What will be needed from now on, in this order: remote shards are fetched ahead by a thread, as many as fit the
        cache; copies of others are let go.
        """
        room, wanted = self._cache.limit, []
        for number in shards:
            shard = self.manifest.shards[number]
            place = self._place(shard)
            if isinstance(place, str) and number not in self._lost:
                room -= shard.bytes
                if room >= 0:
                    wanted.append(self._elsewhere(shard, place))
        if wanted and self._fetcher is None:
            self._fetcher = Fetcher(partial(_fetch_ahead, self._cache))
        if self._fetcher is not None:
            self._fetcher.expect(wanted)
            for number in set(self._open).difference(shards):
                os.close(self._open.pop(number)[0])

    def close(self) -> None:
        """Close the shards; reading again opens them again."""
        if self._fetcher is not None:
            self._fetcher.close()
            self._fetcher = None
        while self._open:
            os.close(self._open.popitem()[1][0])

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which opens files and begins to fetch by itself."""
        return self.__dict__ | {"_open": OrderedDict(), "_fetcher": None}

    def _locate(self, shard: int, sample: int) -> tuple[int, IndexEntry]:
        """The open file of a shard and the index entry of one of its samples."""
        found = self._open.get(shard)
        if found is None:
            found = self._opened(shard)
        else:
            self._open.move_to_end(shard)
        return found[0], found[1].samples[sample]

    def _opened(self, shard: int) -> tuple[int, ShardIndex]:
        """Open a shard, and close the one used longest ago when there are many."""
        if shard in self._lost:
            raise self._lost[shard]
        try:
            self._open[shard] = found = self._open_shard(self.manifest.shards[shard])
        except SampleError as error:
            self._lost[shard] = error
            raise
        if len(self._open) > _OPEN_SHARDS:
            os.close(self._open.popitem(last=False)[1][0])
        return found

    def _open_shard(self, shard: ShardEntry) -> tuple[int, ShardIndex]:
        place = self._place(shard)
        if isinstance(place, str):
            descriptor = self._cache.open(self._elsewhere(shard, place))
            place = self._cache.path(shard)
        else:
            try:
                descriptor = os.open(place, os.O_RDONLY)
            except OSError as error:
                raise SampleError("unreadable shard", f"{place}: {error.strerror}") from None
        try:
            return descriptor, _load_index(place, shard)
        except SampleError:
            os.close(descriptor)
            raise

    def _place(self, shard: ShardEntry) -> Place:
        """The path of a shard here, or its address."""
        if shard.url:
            return shard.url if shard.url.startswith(_PIPE) else located(shard.url)
        if isinstance(self.folder, str):
            return beside(self.folder, shard.name)
        return self.folder / shard.name

    def _elsewhere(self, shard: ShardEntry, address: str) -> Elsewhere:
        if shard.url or not isinstance(self.folder, str):
            return Elsewhere(shard, address)
        return Elsewhere(shard, address, beside(self.folder, ShardIndex.path_for(Path(shard.name)).name))

    def _check_url(self, shard: ShardEntry, allow_pipe: bool) -> None:
        """A manifest may name addresses; commands only by leave, and files of this machine only when it lies here itself."""
        if shard.url.startswith(_PIPE):
            if not allow_pipe:
                raise DataError(
                    f"{self._shown()}: the manifest wants to run a shell command for {shard.name}: {shard.url[len(_PIPE) :]!r}. "
                    f"If you trust whoever wrote it, set data.allow_pipe=true"
                )
        elif shard.url and isinstance(located(shard.url), Path) and isinstance(self.folder, str):
            raise DataError(
                f"{self._shown()}: {shard.name}: a manifest that comes from an address may not name files of this machine "
                f"({shard.url})"
            )

    def _check_size(self, number: int, shard: ShardEntry, path: Path) -> None:
        try:
            size = path.stat().st_size if path.is_file() else None
        except OSError:
            size = None
        if size is None:
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
                f"{self._shown()} (source {self.name}): {lost} of {self.manifest.samples} samples are lost: "
                f"{named}{more}. "
                f"Build or copy the shards again, or accept it with data.max_bad_fraction="
                f"{lost / self.manifest.samples:.2g} or more"
            )

    def _shown(self, shard: int | None = None) -> str:
        """The folder, or one of its shards, as messages name it."""
        return shown(str(self.folder if shard is None else self._place(self.manifest.shards[shard])))


def _fetch_ahead(cache: ShardCache, wanted: Elsewhere, stopped: Any) -> None:
    cache.bring(wanted, wait=False, stopped=stopped)


def _load_index(path: Path, shard: ShardEntry) -> ShardIndex:
    """The index of a shard that is here; a lost or stale one is made again, if the shard is what the manifest says."""
    try:
        index = ShardIndex.load(path)
        if len(index.samples) == shard.samples:
            return index
    except DataError:
        pass  # made again below
    try:
        if file_digest(path) == shard.sha256:
            index = build_index(path)
            if len(index.samples) == shard.samples:
                return index
    except (OSError, DataError) as error:
        raise SampleError("unreadable shard", f"{path}: {error}") from None
    raise SampleError("damaged shard", f"{path}: is not what the manifest lists, and has no index")


def records(folder: Place, limit: int | None = None, remote: Remote = DEFAULTS) -> Iterator[Record]:
    """The records of a shard set in the order they were written, at most `limit`; DataError at the first bad
    one.
    """
    reader = ShardReader(Path(str(folder)).name, folder, remote=remote)
    try:
        left = reader.manifest.samples if limit is None else limit
        for number, shard in enumerate(reader.manifest.shards):
            if left <= 0:
                return
            following = (
                [number + 1] if left > shard.samples and number + 1 < len(reader.manifest.shards) else []
            )
            reader.expect([number, *following])
            for sample in range(min(left, shard.samples)):
                yield decode(reader.read(number, sample))
            left -= shard.samples
    finally:
        reader.close()
