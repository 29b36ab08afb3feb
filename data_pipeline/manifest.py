"""What a shard set is: its shards with counts and checksums, and where every page in it came from.

A shard set is a folder of `shard-*.tar` (webdataset), an index beside each, and `manifest.json`. Readers
trust only what the manifest lists: a webdataset reader alone takes a damaged header for the end of the shard
and loses the rest of the samples silently.
"""

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from data_pipeline.atomic import atomic_write
from data_pipeline.errors import DataError
from data_pipeline.index import ShardIndex, build_index
from data_pipeline.remote import NotThere, Place, beside, located, read, shown
from data_pipeline.small_file import read_small_json

__all__ = ["MANIFEST_NAME", "Manifest", "ShardEntry", "ShardIndex", "build_index", "describe_shard", "verify"]

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = 1
_HASH_BLOCK = 1 << 20
_VERIFY_THREADS = 8
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class ShardEntry:
    """One shard: file name, number of samples, size in bytes, sha256 of the file in hex.

    url: where its bytes come from when not from beside the manifest: an address, or "pipe:COMMAND"; see `remote`.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        """Its fields, without an empty url."""
        return {name: value for name, value in asdict(self).items() if name != "url" or value}


@dataclass
class Manifest:
    """`manifest.json`.

    refused: pages that were not written, by reason. text_bytes: of all targets together, as UTF-8.
    renderer, fonts (file name: sha256), sources ({"name", "version", "license"}) and config say how the pages
    were made; readers need only `shards`.
    """

    name: str
    split: str
    shards: list[ShardEntry]
    refused: dict[str, int] = field(default_factory=dict)
    renderer: dict[str, Any] = field(default_factory=dict)
    fonts: dict[str, str] = field(default_factory=dict)
    sources: list[dict[str, str]] = field(default_factory=list)
    text_bytes: int = 0
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    def digest(self) -> str:
        """sha256 (hex) of the list of shards: what decides which samples there are, and in which order. Where they come
        from does not.
        """
        shards = [replace(shard, url="").to_json() for shard in self.shards]
        canonical = json.dumps(shards, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `folder/manifest.json` atomically: its presence says that the shard set is complete."""
        shards = [shard.to_json() for shard in self.shards]
        content = {"format": MANIFEST_FORMAT, "samples": self.samples, **asdict(self), "shards": shards}
        with atomic_write(Path(folder) / MANIFEST_NAME) as file:
            file.write(json.dumps(content, ensure_ascii=False, indent=1).encode())

    @classmethod
    def load(cls, folder: Place) -> "Manifest":
        """Read `folder/manifest.json`, of a folder here or at an address; DataError if it is missing, is not JSON, or
        contradicts itself.
        """
        place = located(folder)
        path = f"{shown(str(place)).rstrip('/')}/{MANIFEST_NAME}"
        try:
            if isinstance(place, str):
                content = json.loads(read(beside(place, MANIFEST_NAME)))
            else:
                content = read_small_json(place / MANIFEST_NAME)
        except NotThere as error:
            raise DataError(f"not a finished shard set, it has no {MANIFEST_NAME}: {error}") from None
        except OSError:
            raise DataError(
                f"{folder} is not a finished shard set: it has no {MANIFEST_NAME}. "
                f"Build one with `python -m data_pipeline.build corpus=... out=...`"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: invalid JSON ({error}); restore it or build the shard set again"
            ) from None
        return cls._parse(content, path)

    @classmethod
    def _parse(cls, content: Any, path: str) -> "Manifest":
        if not isinstance(content, dict) or content.get("format") != MANIFEST_FORMAT:
            raise DataError(f"{path}: not a manifest of format {MANIFEST_FORMAT}")
        try:
            known = {item.name for item in fields(cls)} - {"shards"}
            shards = [ShardEntry(**entry) for entry in content["shards"]]
            manifest = cls(shards=shards, **{name: content[name] for name in known if name in content})
            _check_types(manifest)
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: malformed manifest ({error})") from None
        for shard in shards:
            _check_entry(shard, path)
        if len({shard.name for shard in shards}) != len(shards):
            raise DataError(f"{path}: a shard is listed twice")
        if content.get("samples") != manifest.samples:
            raise DataError(
                f"{path}: samples is {content.get('samples')}, but its shards hold {manifest.samples}"
            )
        return manifest


def describe_shard(tar_path: Path) -> ShardEntry:
    """Write the index of a finished shard and return its manifest entry; DataError if it is damaged."""
    index = build_index(tar_path)
    index.save(tar_path)
    return ShardEntry(tar_path.name, len(index.samples), tar_path.stat().st_size, file_digest(tar_path))


def file_digest(path: Path, progress: Callable[[int], object] | None = None) -> str:
    """sha256 of a file in hex; `progress` is called with the number of bytes of each block read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
            if progress:
                progress(len(block))
    return digest.hexdigest()


def verify(folder: Path, manifest: Manifest, progress: Callable[[int], object] | None = None) -> list[str]:
    """Every problem of the shards on disk against their manifest, one line each; empty when all is well.

    Shards are read and hashed in parallel threads (hashing releases the interpreter lock). `progress` is
    called from these threads with the number of bytes just checked; they add up to the sum of `shard.bytes`
    for a whole set.
    """
    folder = Path(folder)
    with ThreadPoolExecutor(_VERIFY_THREADS) as pool:
        found = pool.map(lambda shard: _problems(folder, shard, progress), manifest.shards)
        problems = [problem for shard in found for problem in shard]
    listed = {shard.name for shard in manifest.shards}
    strangers = sorted(path.name for path in folder.glob("*.tar") if path.name not in listed)
    return problems + [f"{name}: not in the manifest" for name in strangers]


def _problems(folder: Path, shard: ShardEntry, progress: Callable[[int], object] | None) -> list[str]:
    path = folder / shard.name
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            word = "truncated" if size < shard.bytes else "too long"
            return [f"{shard.name}: {word} ({size} of {shard.bytes} bytes)"]
        if file_digest(path, progress) != shard.sha256:
            return [f"{shard.name}: checksum differs"]
        if len(ShardIndex.load(path).samples) != shard.samples:
            return [f"{ShardIndex.path_for(path).name}: not the {shard.samples} samples of the manifest"]
    except FileNotFoundError:
        return [f"{shard.name}: missing"]
    except OSError as error:
        return [f"{shard.name}: cannot be read ({error.strerror})"]
    except DataError as error:
        return [str(error)]
    return []


def _check_types(manifest: Manifest) -> None:
    """Raises TypeError for what a reader could not use."""
    kinds = {"name": str, "split": str, "refused": dict, "renderer": dict, "fonts": dict, "sources": list, "text_bytes": int, "config": dict}  # fmt: skip
    for name, kind in kinds.items():
        if not isinstance(getattr(manifest, name), kind):
            raise TypeError(f"{name} is no {kind.__name__}")


def _check_entry(shard: ShardEntry, path: str) -> None:
    """A shard's name must be a plain file name: a manifest is no way to make a reader open other files."""
    if not isinstance(shard.name, str) or Path(shard.name).name != shard.name:
        raise DataError(f"{path}: {shard.name!r} is not a plain file name")
    if type(shard.samples) is not int or type(shard.bytes) is not int or min(shard.samples, shard.bytes) < 0:
        raise DataError(f"{path}: {shard.name}: samples and bytes must be counts")
    if not isinstance(shard.sha256, str) or not _SHA256.fullmatch(shard.sha256):
        raise DataError(f"{path}: {shard.name}: sha256 must be 64 hexadecimal digits")
    if not isinstance(shard.url, str):
        raise DataError(f"{path}: {shard.name}: url must be a text")
