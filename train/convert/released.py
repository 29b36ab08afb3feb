"""A folder of released weights, read one tensor at a time: safetensors files, with or without an index."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from data_pipeline.errors import UserError
from data_pipeline.small_file import read_small_json
from train.convert.names import PATCH_EMBEDDING, POSITION_IDS, Shape

INDEX = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
NAMED = 3  # tensors of each kind that an error names


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies, and what it is. start: of its first byte. dtype: safetensors' word, such as "BF16"."""

    file: Path
    start: int
    shape: Shape
    dtype: str


class Released:
    """The tensors of a folder, by name. Their bytes are read, or mapped, when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Reads the index and the files' headers. Raises UserError, naming the file, for what is absent or damaged."""
        self.folder = folder
        self.tensors: dict[str, Stored] = {}
        for file, names in _files(folder).items():
            self._add(file, names)

    @property
    def weights(self) -> dict[str, Stored]:
        """The tensors without those that the model does not use."""
        return {
            name: entry for name, entry in self.tensors.items() if name not in (PATCH_EMBEDDING, POSITION_IDS)
        }

    def read(self, names: Iterable[str]) -> list[torch.Tensor]:
        """Tensors by name, each a mapped part of its file: in memory as far as it is used, and until it is dropped."""
        return [_mapped(self.tensors[name], self.dtype([name])) for name in names]

    def dtype(self, names: Iterable[str]) -> torch.dtype:
        """The number format of tensors that become one. Raises UserError where they differ, or none of ours."""
        names = list(names)
        kinds = {name: self.tensors[name].dtype for name in names}
        odd = next((name for name, kind in kinds.items() if kind not in DTYPES), None)
        if odd is not None:
            raise UserError(
                f"{self.tensors[odd].file}: {odd} is stored as {kinds[odd]}; only {', '.join(DTYPES)} are read: "
                "give weights that are not quantized"
            )
        if len(set(kinds.values())) > 1:
            pair = next((names[0], name) for name in names if kinds[name] != kinds[names[0]])
            raise UserError(
                f"{self.folder}: {pair[0]} is stored as {kinds[pair[0]]} and {pair[1]} as {kinds[pair[1]]}, but they "
                "become one tensor: store both in one format"
            )
        return DTYPES[kinds[names[0]]]

    def require(self, wanted: Mapping[str, Shape], described_by: str) -> None:
        """Raises one UserError that lists what is missing, surplus or of another shape.

        described_by: what says which tensors are wanted, for the message.
        """
        present = self.weights
        missing = [name for name in wanted if name not in present]
        surplus = [name for name in present if name not in wanted]
        bent = [
            f"{name} ({list(present[name].shape)} instead of {list(shape)})"
            for name, shape in wanted.items()
            if name in present and present[name].shape != shape
        ]
        patch = self.tensors.get(PATCH_EMBEDDING)
        if patch is not None and not _is_patch_embedding(patch.shape):
            bent.append(f"{PATCH_EMBEDDING} ({list(patch.shape)} instead of [C, 3, k, k])")
        problems = [
            f"\n  {len(names)} {word}: {grouped(names)}"
            for word, names in (("missing", missing), ("surplus", surplus), ("of another shape", bent))
            if names
        ]
        if problems:
            raise UserError(
                f"{self.folder}: its tensors are not those of {described_by}." + "".join(problems)
            )

    def _add(self, file: Path, names: set[str] | None) -> None:
        try:
            with safe_open(
                file, framework="pt"
            ):  # which checks the header, and that the values are all there
                found = _stored(file)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file} ({_size(file)} bytes) is truncated or no safetensors file ({error}): copy it again"
            ) from None
        absent = sorted((names or set()) - set(found))
        if absent:
            raise UserError(f"{file} lacks {len(absent)} tensors that {INDEX} says it has: {grouped(absent)}")
        twice = sorted(set(found) & set(self.tensors))
        if twice:
            raise UserError(
                f"{file} and {self.tensors[twice[0]].file} both have {twice[0]}: remove one of them"
            )
        self.tensors |= found


def is_released(folder: Path) -> bool:
    """Whether a folder holds safetensors files or their index."""
    return (folder / INDEX).is_file() or any(folder.glob("*.safetensors"))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a dictionary. Raises UserError, naming the file, for anything else."""
    try:
        value = read_small_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is no dictionary")
    return value


def grouped(names: Iterable[str]) -> str:
    """Names of one kind (alike but for numbers) counted, the first few in words."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(re.sub(r"\d+", "*", name.partition(" ")[0]), []).append(name)
    shown = [
        ", ".join(alike) if len(alike) <= NAMED else f"{alike[0]}, {alike[1]}, … ({len(alike)} like it)"
        for alike in kinds.values()
    ]
    more = "" if len(shown) <= 4 * NAMED else f"; and {len(shown) - 4 * NAMED} other kinds"
    return "; ".join(shown[: 4 * NAMED]) + more


def _files(folder: Path) -> dict[Path, set[str] | None]:
    """The files to read, each with the tensors that the index wants in it (None: there is no index)."""
    index = folder / INDEX
    if not index.is_file():
        return dict.fromkeys(sorted(folder.glob("*.safetensors")))
    shards: dict[Path, set[str]] = {}
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{index} has no weight_map from tensor to file")
    for name, shard in places.items():
        if Path(shard).name != shard:
            raise UserError(f"{index} names {shard!r}, which is not a file of this folder")
        shards.setdefault(folder / shard, set()).add(name)
    absent = [file.name for file in shards if not file.is_file()]
    if absent:
        raise UserError(f"{index} names files that are not there: {', '.join(absent)}. Copy them beside it.")
    return dict(shards)


def _stored(file: Path) -> dict[str, Stored]:
    """What the header of a sound file says."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    return {
        name: Stored(file, 8 + length + entry["data_offsets"][0], tuple(entry["shape"]), entry["dtype"])
        for name, entry in header.items()
    }


def _mapped(stored: Stored, dtype: torch.dtype) -> torch.Tensor:
    """Its own mapping of the file, which goes with it; `safe_open` maps the whole file for as long as any part is used."""
    size = dtype.itemsize * math.prod(stored.shape)
    values = np.memmap(stored.file, np.uint8, "c", stored.start, (size,))
    return torch.from_numpy(values).view(dtype).view(stored.shape)


def _is_patch_embedding(shape: Shape) -> bool:
    return len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
