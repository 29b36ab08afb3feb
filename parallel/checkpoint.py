"""Checkpoint folders that are either whole or not there.

    root/step-00000120/          manifest.json names every file with its size and checksum
    root/step-00000120.tmp-…/    being written, or left by a killed process: ignored, removed by the next save
    root/latest                  the name of the newest folder, for people; loading looks at the folders themselves

A folder gets its name only after its files and its manifest are on disk. Loading verifies every byte first: a folder
that fails is refused with one line that names the file, and the next older one is taken. Saving and loading are called
by all ranks together; the folder must be visible to all of them. An error on one rank is raised on all.
"""

import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from parallel import integrity
from parallel import pieces as store
from parallel.errors import CheckpointError
from parallel.pieces import Piece

T = TypeVar("T")

FORMAT = 1
EXTRA = "extra_json"  # what is not a tensor, as JSON in a tensor of bytes: nothing is pickled
_NAME = re.compile(r"step-(\d{8,})")
_SPACE = 1.1  # free bytes wanted a byte to write: file headers, metadata, and what others write meanwhile


def save(
    root: Path,
    step: int,
    pieces: Sequence[Piece],
    extra: dict[str, Any],
    keep: int,
    group: dist.ProcessGroup | None = None,
) -> Path:
    """Writes `root/step-XXXXXXXX` and removes older folders until `keep` are left; the folder written.

    `extra` must be JSON. `group`: all ranks, for what they have to agree on. A kill or an error at any moment leaves
    the folders that were there before. Raises CheckpointError, on all ranks, when there is not space enough or a file
    cannot be written.
    """
    if keep < 1:
        raise CheckpointError(
            f"Keeping {keep} checkpoints would delete the one just written: keep 1 or more."
        )
    root, rank = Path(root), dist.get_rank(group)
    final = root / f"step-{step:08d}"
    text = json.dumps(extra, sort_keys=True).encode()
    blob = Piece.whole(EXTRA, torch.frombuffer(bytearray(text), dtype=torch.uint8), first=rank == 0)
    mine = [piece for piece in (*pieces, blob) if piece.first]
    needed = sum(_gather(group, lambda: sum(piece.tensor.nbytes for piece in mine)))
    working = root / _first(group, lambda: f"{final.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        _first(group, lambda: _begin(working, needed))
        store.write(working, mine, group)  # written and synced
        files = _gather(group, lambda: integrity.describe(_files_of(working, rank)))
        _first(group, lambda: _finish(working, final, step, [*files], keep))
    except CheckpointError as error:
        _first(group, lambda: shutil.rmtree(working, ignore_errors=True))
        raise CheckpointError(
            f"{final} was not written: {error} Older checkpoints are as they were."
        ) from None
    return final


def newest(path: Path) -> Path | None:
    """The newest valid folder of a run or of a root, or `path` itself if it is a checkpoint folder; None without any.

    A folder that fails verification is refused with one line on stderr. Raises CheckpointError when every one fails.
    The ranks share the reading and agree on the result.
    """
    path = Path(path)
    candidates = _first(None, lambda: _candidates(path))
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


def require(path: Path) -> Path:
    """`newest`, where there must be one. Raises CheckpointError that says what `path` is instead."""
    folder = newest(path)
    if folder is None:
        raise CheckpointError(_first(None, lambda: _what_is(Path(path))))
    return folder


def facts(path: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint folder, or of the newest one of a run or root: step, topology, engine, extra.

    Reads nothing else, verifies nothing, needs no process group. Raises CheckpointError where there is none.
    """
    candidates = _candidates(Path(path))
    if not candidates:
        raise CheckpointError(_what_is(Path(path)))
    stored = store.contents(candidates[0])
    if EXTRA not in stored:
        raise CheckpointError(f"{candidates[0]} was not written by Microfiche: it has no {EXTRA}.")
    blob = torch.empty(stored[EXTRA].size[0], dtype=torch.uint8)
    store.read(candidates[0], [Piece.whole(EXTRA, blob)], alone=True)
    return _checked(candidates[0], bytes(blob.tolist()))


def _checked(folder: Path, text: bytes) -> dict[str, Any]:
    """What `facts` gives, as far as every checkpoint has it. Raises CheckpointError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder}: {EXTRA} is no JSON ({error}).") from error
    kinds = {"step": int, "extra": dict, "topology": dict}
    lost = [name for name, kind in kinds.items() if not isinstance(found, dict) or not isinstance(found.get(name, kind()), kind)]
    if lost or "step" not in found:
        raise CheckpointError(f"{folder}: {EXTRA} has no {(lost or ['step'])[0]} as Microfiche writes it.")
    return found


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


def _candidates(path: Path) -> list[Path]:
    """The checkpoint folders that a user may mean by `path`, newest first."""
    if (path / integrity.MANIFEST).exists() or (_NAME.fullmatch(path.name) and path.is_dir()):
        return [path]
    return folders(path / "checkpoints") or folders(path)


def _what_is(path: Path) -> str:
    wanted = (
        "give a run folder (runs/pretrain), its checkpoints folder, or one folder of those (step-00000120)"
    )
    if not path.is_dir():
        return f"{path} is no folder: {wanted}."
    runs = sorted({str(found.parent.parent) for found in path.glob("*/checkpoints/step-*")})
    if runs:
        return f"No checkpoint in {path} itself, but in folders of it: choose {' or '.join(runs)}."
    return f"No checkpoint in {path}: {wanted}."


def _verify_together(folder: Path) -> list[str]:
    part = slice(dist.get_rank(), None, dist.get_world_size())
    found = _gather(None, lambda: integrity.verify(folder, part))
    return sorted({problem for problems in found for problem in problems})


def _first(group: dist.ProcessGroup | None, action: Callable[[], T]) -> T:
    """What `action` gives on rank 0, on every rank; its error is raised on all of them."""
    box: list[Any] = [_tried(action) if dist.get_rank(group) == 0 else None]
    dist.broadcast_object_list(box, 0, group=group)
    return _unwrapped(box)[0]


def _gather(group: dist.ProcessGroup | None, action: Callable[[], T]) -> list[T]:
    """What `action` gives on each rank, on every rank; the first error is raised on all of them."""
    box: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(box, _tried(action), group=group)
    return _unwrapped(box)


def _tried(action: Callable[[], T]) -> tuple[T | None, str]:
    """(result, error text): a rank that failed still takes part in the collective that its peers wait in."""
    try:
        return action(), ""
    except CheckpointError as error:
        return None, str(error)
    except Exception as error:
        return None, f"{error}." if isinstance(error, OSError) else f"{error!r}."


def _unwrapped(box: list[Any]) -> list[Any]:
    for _, error in box:
        if error:
            raise CheckpointError(error)
    return [result for result, _ in box]


def _begin(working: Path, needed: int) -> None:
    """Makes the folder to write in, after what killed saves left is gone."""
    root = working.parent
    root.mkdir(parents=True, exist_ok=True)
    _purge(root)
    wanted, free = _SPACE * needed / 1e9, shutil.disk_usage(root).free / 1e9
    if free < wanted:
        raise CheckpointError(
            f"it needs {wanted:.3f} GB and {root} has {free:.3f} GB free, {wanted - free:.3f} GB too few. Free some "
            "there, or write elsewhere with run.directory=PATH."
        )
    working.mkdir()


def _files_of(folder: Path, rank: int) -> list[Path]:
    """The files that a rank wrote, by DCP's names; rank 0 writes the index of all as well."""
    return sorted(folder.glob(f"__{rank}_*.distcp")) + ([folder / ".metadata"] if rank == 0 else [])


def _finish(working: Path, final: Path, step: int, files: list[dict[str, dict[str, int]]], keep: int) -> None:
    """Gives a written folder its name; only then may older ones go."""
    manifest = {
        "format": FORMAT,
        "step": step,
        "world_size": len(files),
        "torch": torch.__version__,
        "files": {name: entry for part in files for name, entry in sorted(part.items())},
    }
    integrity.write_json(working / integrity.MANIFEST, manifest)
    integrity.sync(working)
    _put_in_place(working, final)
    root = final.parent
    integrity.write_json(root / "latest.tmp", final.name)
    os.replace(root / "latest.tmp", root / "latest")
    integrity.sync(root)
    for old in [folder for folder in folders(root) if step_of(folder) <= step][keep:]:
        _remove(old)


def _put_in_place(working: Path, final: Path) -> None:
    """Renames; a folder of the same step, from before a resume at an older one, gives way."""
    if final.exists():
        _remove(final)
    working.rename(final)
    integrity.sync(final.parent)


def _remove(folder: Path) -> None:
    """Takes its name off a folder first: half a folder must never look like a whole one."""
    gone = folder.with_name(f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)  # what stays behind is tried again by the next save


def _purge(root: Path) -> None:
    remains: Iterable[Path] = root.glob("step-*.tmp-*")
    for path in remains:
        shutil.rmtree(path, ignore_errors=True)
