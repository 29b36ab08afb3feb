"""Checkpoint folders that are either whole or not there.

    root/step-00000120/          manifest.json names every file with its size and checksum
    root/step-00000120.tmp-…/    being written, or left by a killed process: ignored, removed by the next save
    root/latest                  the name of the newest folder, for people; loading looks at the folders themselves

A folder gets its name only after its files and its manifest are on disk. Loading verifies every byte first: a folder
that fails is refused with one line that names the file, and the next older one is taken. Saving and loading are called
by all ranks together; the folder must be visible to all of them.
"""

import json
import os
import re
import shutil
import sys
import uuid
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from parallel import pieces as store
from parallel.errors import CheckpointError
from parallel.pieces import Piece

FORMAT = 1
EXTRA = "extra_json"  # what is not a tensor, as JSON in a tensor of bytes: nothing is pickled
_NAME = re.compile(r"step-(\d{8,})")


def save(root: Path, step: int, pieces: Sequence[Piece], extra: dict[str, Any], keep: int) -> Path:
    """Writes `root/step-XXXXXXXX` and removes older folders until `keep` are left; the folder written.

    `extra` must be JSON. A kill at any moment leaves the folders that were there before.
    """
    if keep < 1:
        raise CheckpointError(
            f"Keeping {keep} checkpoints would delete the one just written: keep 1 or more."
        )
    root, rank = Path(root), dist.get_rank()
    final = root / f"step-{step:08d}"
    name = _agree(f"{final.name}.tmp-{uuid.uuid4().hex[:8]}")
    working = root / name
    if rank == 0:
        _purge(root)
        working.mkdir(parents=True)
    dist.barrier()
    text = json.dumps(extra, sort_keys=True).encode()
    blob = Piece.whole(EXTRA, torch.frombuffer(bytearray(text), dtype=torch.uint8), first=rank == 0)
    store.write(working, [*pieces, blob])
    if rank == 0:  # DCP has written and synced the files of all ranks
        _write_json(working / "manifest.json", _manifest(working, step))
        _sync(working)
        _put_in_place(working, final)
        _write_json(root / "latest.tmp", final.name)
        os.replace(root / "latest.tmp", root / "latest")
        _sync(root)
        for old in [folder for folder in folders(root) if step_of(folder) <= step][keep:]:
            shutil.rmtree(old)
    dist.barrier()
    return final


def newest(path: Path) -> Path | None:
    """The newest valid folder of a root, or `path` itself if it is a checkpoint folder; None if there is none at all.

    A folder that fails verification is refused with one line on stderr. Raises CheckpointError when every one fails.
    The ranks share the reading and agree on the result.
    """
    path = Path(path)
    candidates = _agree([path] if _is_folder(path) else folders(path))
    for folder in candidates:
        problems = _verify_together(folder)
        if not problems:
            return folder
        if dist.get_rank() == 0:
            print(f"checkpoint refused: {folder}: {problems[0]}", file=sys.stderr, flush=True)
    if candidates:
        raise CheckpointError(
            f"No valid checkpoint in {path}: {len(candidates)} refused (see above). Restore one from a copy, or start "
            "over in another folder."
        )
    return None


def read_extra(folder: Path) -> dict[str, Any]:
    """The JSON part of a folder; all ranks call it."""
    size = store.contents(folder)[EXTRA].size[0]
    blob = torch.empty(size, dtype=torch.uint8)
    store.read(folder, [Piece.whole(EXTRA, blob)])
    return json.loads(bytes(blob.tolist()))


def verify(folder: Path, part: slice = slice(None)) -> list[str]:
    """What is wrong with a folder, one line a file; nothing when every byte is as it was written.

    `part`: which of the files, in sorted order, to read. Needs no process group.
    """
    try:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        items = sorted(files.items())[part]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"manifest.json: {error}"]
    problems = []
    for name, entry in items:
        file = folder / name
        if not file.is_file():
            problems.append(f"{name}: missing")
        elif file.stat().st_size != entry["bytes"]:
            problems.append(f"{name}: {file.stat().st_size} bytes, {entry['bytes']} were written")
        elif _checksum(file) != entry["crc32"]:
            problems.append(f"{name}: checksum differs")
    return problems


def folders(root: Path) -> list[Path]:
    """Finished checkpoint folders, newest first; valid or not."""
    found = [path for path in Path(root).glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """The step in a folder's name."""
    match = _NAME.fullmatch(folder.name)
    if match is None:
        raise CheckpointError(f"{folder} is not named like a checkpoint (step-00000120).")
    return int(match[1])


def _is_folder(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None or (path / "manifest.json").exists()


def _verify_together(folder: Path) -> list[str]:
    mine = verify(folder, slice(dist.get_rank(), None, dist.get_world_size()))
    found: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, mine)
    return sorted({problem for problems in found for problem in problems})


def _agree(value: Any) -> Any:
    """Rank 0's value on every rank."""
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def _manifest(folder: Path, step: int) -> dict[str, Any]:
    files = {
        file.name: {"bytes": file.stat().st_size, "crc32": _checksum(file)}
        for file in sorted(folder.iterdir())
    }
    return {
        "format": FORMAT,
        "step": step,
        "world_size": dist.get_world_size(),
        "torch": torch.__version__,
        "files": files,
    }


def _checksum(file: Path, block: int = 1 << 22) -> int:
    value = 0
    with file.open("rb") as stream:
        while data := stream.read(block):
            value = zlib.crc32(data, value)
    return value


def _write_json(path: Path, value: Any) -> None:
    with path.open("w") as file:
        file.write(value if isinstance(value, str) else json.dumps(value, indent=1))
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _put_in_place(working: Path, final: Path) -> None:
    """Renames; a folder of the same step, from before a resume at an older one, gives way."""
    if final.exists():
        final.rename(final.with_name(f"{final.name}.tmp-replaced-{uuid.uuid4().hex[:8]}"))
    working.rename(final)
    _sync(final.parent)
    _purge(final.parent)


def _purge(root: Path) -> None:
    remains: Iterable[Path] = root.glob("step-*.tmp-*") if root.exists() else ()
    for path in remains:
        shutil.rmtree(path, ignore_errors=True)
