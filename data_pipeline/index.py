"""Where each sample lies inside a shard, so that a reader can fetch any of them with one `pread`.

The index of `shard-00000.tar` is `shard-00000.index.json` beside it:

    {"format": 1, "shard": "shard-00000.tar", "samples": [
        {"key": "00000000", "parts": {"png": [offset, bytes], "json": [offset, bytes]}, "target_bytes": n,
         "crc32": n}]}

Offsets are into the tar; crc32 runs over the parts' bytes in the order listed. The tar stays plain
webdataset: it is readable without its index, and the index can be built again from it.
"""

import json
import tarfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from data_pipeline.atomic import atomic_write
from data_pipeline.errors import DataError
from data_pipeline.small_file import read_small_json

INDEX_FORMAT = 1
_ZERO_BLOCKS = 1024  # a tar ends with two zero blocks


@dataclass(slots=True)
class IndexEntry:
    """One sample: its parts' (offset, bytes) by extension, UTF-8 bytes of its target, crc32 of its parts."""

    key: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    target_bytes: int = 0
    crc32: int = 0


@dataclass
class ShardIndex:
    """The samples of one shard, in the order of the tar."""

    shard: str
    samples: list[IndexEntry]

    @staticmethod
    def path_for(tar_path: Path) -> Path:
        """Where the index of a shard is kept."""
        return tar_path.with_suffix(".index.json")

    def save(self, tar_path: Path) -> None:
        """Write the index beside its shard, atomically."""
        content = {
            "format": INDEX_FORMAT,
            "shard": self.shard,
            "samples": [asdict(entry) for entry in self.samples],
        }
        with atomic_write(self.path_for(tar_path)) as file:
            file.write(json.dumps(content, separators=(",", ":")).encode())

    @classmethod
    def load(cls, tar_path: Path) -> "ShardIndex":
        """Read the index beside a shard; DataError if it is missing, malformed or another shard's."""
        path = cls.path_for(tar_path)
        try:
            content = read_small_json(path)
            if content["format"] != INDEX_FORMAT or content["shard"] != tar_path.name:
                raise DataError(f"{path}: is not the index (format {INDEX_FORMAT}) of {tar_path.name}")
            return cls(content["shard"], [_parse_entry(entry) for entry in content["samples"]])
        except OSError as error:
            raise DataError(f"{path}: cannot read the shard's index ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise DataError(f"{path}: malformed index ({error!r})") from None


def build_index(tar_path: Path) -> ShardIndex:
    """Index a shard by reading it once; DataError if it is not a whole tar of webdataset samples.

    A damaged header makes tar readers stop as if at the end (webdataset then loses the rest without a word),
    so what follows the last sample must be the tar's zero blocks.
    """
    samples: list[IndexEntry] = []
    try:
        with open(tar_path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            end = 0
            for member in tar:
                end = member.offset_data + -(-member.size // 512) * 512
                if member.isfile():
                    _add_part(samples, file, tar_path, member)
                    file.seek(end)
            _require_end(file, tar_path, end, samples)
    except tarfile.TarError as error:
        raise DataError(f"{tar_path}: truncated or not a tar file ({error})") from None
    except OSError as error:
        raise DataError(f"{tar_path}: cannot read the shard ({error.strerror or error})") from None
    if len({entry.key for entry in samples}) != len(samples):
        raise DataError(f"{tar_path}: a key occurs twice")
    return ShardIndex(tar_path.name, samples)


def _add_part(samples: list[IndexEntry], file: BinaryIO, tar_path: Path, member: tarfile.TarInfo) -> None:
    """Add a member of the tar to its sample; as in webdataset, neighbours with one key are one sample."""
    folder, _, name = member.name.rpartition("/")
    key, _, extension = name.partition(".")
    if folder or not key or not extension:
        raise DataError(f"{tar_path}: {member.name!r} is not named KEY.EXTENSION")
    if not samples or samples[-1].key != key:
        samples.append(IndexEntry(key))
    entry = samples[-1]
    if extension in entry.parts:
        raise DataError(f"{tar_path}: {member.name} occurs twice")
    file.seek(member.offset_data)
    data = file.read(member.size)
    if len(data) != member.size:
        raise DataError(f"{tar_path}: truncated in {member.name}")
    entry.parts[extension] = (member.offset_data, member.size)
    entry.crc32 = zlib.crc32(data, entry.crc32)
    if extension == "json":
        entry.target_bytes = _target_bytes(data)


def _target_bytes(data: bytes) -> int:
    """UTF-8 length of the target; 0 where the JSON cannot be read (a reader counts such a sample as bad)."""
    try:
        return len(json.loads(data)["target"].encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 0


def _require_end(file: BinaryIO, tar_path: Path, end: int, samples: list[IndexEntry]) -> None:
    file.seek(end)
    tail = file.read(_ZERO_BLOCKS)
    if len(tail) < _ZERO_BLOCKS:
        raise DataError(f"{tar_path}: truncated: the end of the tar is missing")
    if any(tail):
        last = samples[-1].key if samples else "the start"
        raise DataError(f"{tar_path}: damaged tar header after {last}")


def _parse_entry(entry: dict) -> IndexEntry:
    parts = {name: (int(offset), int(size)) for name, (offset, size) in entry["parts"].items()}
    return IndexEntry(str(entry["key"]), parts, int(entry["target_bytes"]), int(entry["crc32"]))
