"""Writes safetensors files tensor by tensor: sizes are known before, so that each goes straight to its place.

The `safetensors` package writes a file from tensors that are all in memory. Format: 8 bytes with the length of a JSON
header, little-endian; the header, with type, shape and place of each tensor; the values, without gaps.
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import torch

from train.convert.names import Shape
from train.convert.released import DTYPES, INDEX

_WORDS = {dtype: word for word, dtype in DTYPES.items()}


@dataclass(frozen=True)
class _Place:
    file: BinaryIO
    start: int
    dtype: torch.dtype
    shape: Shape


class ShardWriter:
    """A context: `write` every tensor once, in any order; at its end the files are on disk, with their index."""

    def __init__(
        self, folder: Path, tensors: Mapping[str, tuple[torch.dtype, Shape]], shard_bytes: int
    ) -> None:
        """Lays out the files in `folder`. tensors: in the order they are to stand in. shard_bytes: of values in a file at
        most; a larger tensor gets a file of its own.
        """
        self.folder, self._stack = folder, ExitStack()
        self._places: dict[str, _Place] = {}
        self._files: list[BinaryIO] = []
        shards = _shards(tensors, shard_bytes)
        names = [
            f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)
        ]
        self.total = sum(_bytes(*entry) for entry in tensors.values())
        self._index = {
            "metadata": {"total_size": self.total},
            "weight_map": dict(
                sorted((tensor, name) for name, shard in zip(names, shards) for tensor in shard)
            ),
        }
        for name, shard in zip(names, shards):
            self._begin(folder / name, {tensor: tensors[tensor] for tensor in shard})

    def write(self, name: str, value: torch.Tensor) -> None:
        """Writes a tensor to its place. Raises ValueError for one of another type or shape, KeyError for one twice."""
        place = self._places.pop(name)
        if value.dtype != place.dtype or tuple(value.shape) != place.shape:
            raise ValueError(
                f"{name} is {value.dtype} {list(value.shape)}, not {place.dtype} {list(place.shape)}"
            )
        place.file.seek(place.start)
        place.file.write(value.contiguous().view(-1).view(torch.uint8).numpy().data)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is not None:
                return
            if self._places:
                raise ValueError(
                    f"{len(self._places)} tensors were not written, such as {next(iter(self._places))}"
                )
            self._open(self.folder / INDEX).write(json.dumps(self._index, indent=2).encode())
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())

    def _open(self, path: Path) -> BinaryIO:
        self._files.append(self._stack.enter_context(path.open("wb")))
        return self._files[-1]

    def _begin(self, path: Path, tensors: Mapping[str, tuple[torch.dtype, Shape]]) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, (dtype, shape) in tensors.items():
            start, end = end, end + _bytes(dtype, shape)
            header[name] = {"dtype": _WORDS[dtype], "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # so that the values are aligned
        file = self._open(path)
        file.write(len(text).to_bytes(8, "little") + text)
        first = 8 + len(text)
        file.truncate(first + end)
        for name, (dtype, shape) in tensors.items():
            self._places[name] = _Place(file, first, dtype, shape)
            first += _bytes(dtype, shape)


def _shards(tensors: Mapping[str, tuple[torch.dtype, Shape]], shard_bytes: int) -> list[list[str]]:
    """Names of each file, in order."""
    shards: list[list[str]] = []
    room = 0
    for name, entry in tensors.items():
        size = _bytes(*entry)
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


def _bytes(dtype: torch.dtype, shape: Shape) -> int:
    return dtype.itemsize * math.prod(shape)
