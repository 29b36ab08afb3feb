"""Files that are on disk as they were written: sizes and checksums in a manifest, and writes that survive a crash.

torch's distributed checkpoint has no checksum: it loads a flipped bit as a wrong weight without a word.
"""

import json
import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def describe(files: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Name → {"bytes", "crc32"} of files as they are now."""
    return {file.name: {"bytes": file.stat().st_size, "crc32": checksum(file)} for file in files}


def verify(folder: Path, part: slice = slice(None), contents: bool = True) -> list[str]:
    """What is wrong with a folder, one line a file; nothing when every byte is as it was written.

    `part`: which of the files, in sorted order, to read. Without `contents` their sizes alone are looked at.
    """
    try:
        items = sorted(_listed(folder).items())[part]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [f"{MANIFEST}: {error!r}" if isinstance(error, KeyError) else f"{MANIFEST}: {error}"]
    problems = []
    for name, entry in items:
        file = folder / name
        if not file.is_file():
            problems.append(f"{name}: missing")
        elif file.stat().st_size != entry[0]:
            problems.append(f"{name}: {file.stat().st_size} bytes, {entry[0]} were written")
        elif contents and checksum(file) != entry[1]:
            problems.append(f"{name}: checksum differs")
    return problems


def _listed(folder: Path) -> dict[str, tuple[int, int]]:
    """Name → (bytes, CRC-32) by the manifest. Any of many errors where it is not one, or not of this folder."""
    if not (folder / MANIFEST).is_file():  # a pipe would never end
        raise FileNotFoundError("there is no such file")
    manifest = json.loads((folder / MANIFEST).read_text())
    files = {name: (int(entry["bytes"]), int(entry["crc32"])) for name, entry in manifest["files"].items()}
    if not files:
        raise ValueError("it lists no file")
    if any(Path(name).name != name for name in files):
        raise ValueError("it lists files of other folders")
    named = re.fullmatch(r"step-(\d+)", folder.name)  # a copy may have any name
    if named and int(named[1]) != manifest["step"]:
        raise ValueError(f"of step {manifest['step']}")
    return files


def checksum(file: Path, block: int = 1 << 22) -> int:
    """CRC-32 of a file."""
    value = 0
    with file.open("rb") as stream:
        while data := stream.read(block):
            value = zlib.crc32(data, value)
    return value


def write_json(path: Path, value: Any) -> None:
    """Writes JSON (a string as it is) and waits until it is on disk."""
    with path.open("w") as file:
        file.write(value if isinstance(value, str) else json.dumps(value, indent=1))
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Waits until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
