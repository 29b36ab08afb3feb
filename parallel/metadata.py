"""The index of a checkpoint folder, `.metadata`, read without running anything that is in it.

DCP pickles it, and a pickle may name any function to be called. Here the names that DCP writes stand for inert records, made
for one reading, and all others are refused; what comes out is checked value by value before DCP's own objects are made of
it: types, that chunks fill their tensors, that files lie in the folder and are long enough for what is said to be in them.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from parallel.errors import CheckpointError

NAME = ".metadata"
_DCP = "torch.distributed.checkpoint"
_RECORDS = {(f"{_DCP}.filesystem", "_StorageInfo")} | {
    (f"{_DCP}.metadata", name)
    for name in ("Metadata", "ChunkStorageMetadata", "TensorStorageMetadata", "TensorProperties", "MetadataIndex", "StorageMeta")
}  # fmt: skip
_CALLED = {
    ("torch", "Size"): "tuple", ("torch.serialization", "_get_layout"): "word", ("pathlib", "Path"): "path",
    ("pathlib", "PosixPath"): "path", (f"{_DCP}.metadata", "_MEM_FORMAT_ENCODING"): "word",
}  # fmt: skip


def read(folder: Path) -> Metadata:
    """The index as DCP wants it. Raises CheckpointError, naming the file, for one that is not what DCP writes of tensors."""
    path = folder / NAME
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with path.open("rb") as file:
            found = _Unpickler(file).load()
        tensors = dict(_tensors(found.told("state_dict_metadata")))
        places = dict(_places(found.told("storage_data"), folder, tensors))
        _check_filled(tensors, places)
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise CheckpointError(f"{path} is not a checkpoint's metadata: {error}") from error
    return Metadata(dict(tensors), storage_data=places, storage_meta=StorageMeta())


class _Unpickler(pickle.Unpickler):
    """Makes records in the place of objects. Their classes are made for one reading: a pickle can change a class, too."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._record = type("Record", (_Record,), {})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _RECORDS:
            return self._record
        if (module, name) in _CALLED:
            return _called(_CALLED[module, name])
        dtype = getattr(torch, name, None) if module == "torch" else None
        if isinstance(dtype, torch.dtype):
            return dtype
        if name == "BytesStorageMetadata":
            raise pickle.UnpicklingError(
                "it holds items that are not tensors: they would be unpickled, and are refused"
            )
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint needs")


def _called(kind: str) -> Callable[..., Any]:
    """What stands for a function, made anew each time: plain values from plain values."""
    if kind == "path":
        return lambda *parts: "/".join(parts)
    return (lambda items=(): tuple(items)) if kind == "tuple" else (lambda word: word)


class _Record:
    """What a pickle says of an object: a mapping, or a tuple."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.__dict__["state"] = state

    def told(self, name: str) -> Any:
        state = self.__dict__.get("state")
        if not isinstance(state, dict) or name not in state:
            raise ValueError(f"a record lacks {name}")
        return state[name]


def _tensors(found: Any) -> Iterator[tuple[str, TensorStorageMetadata]]:
    for key, record in _mapping(found).items():
        properties = record.told("properties").__dict__.get("state")
        dtype = properties[0] if isinstance(properties, tuple) and properties else None
        if not isinstance(key, str) or not isinstance(dtype, torch.dtype):
            raise ValueError(f"{key!r} is no tensor")
        size = _numbers(record.told("size"), key)
        chunks = [_chunk(key, size, chunk) for chunk in record.told("chunks")]
        yield key, TensorStorageMetadata(TensorProperties(dtype), torch.Size(size), chunks)


def _chunk(key: str, size: tuple[int, ...], record: Any) -> ChunkStorageMetadata:
    offsets, sizes = _numbers(record.told("offsets"), key), _numbers(record.told("sizes"), key)
    inside = len(offsets) == len(sizes) == len(size)
    if not inside or any(start + length > whole for start, length, whole in zip(offsets, sizes, size)):
        raise ValueError(f"{key}: a part of it lies outside")
    return ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))


def _places(
    found: Any, folder: Path, tensors: Mapping[str, TensorStorageMetadata]
) -> Iterator[tuple[MetadataIndex, _StorageInfo]]:
    """Where the parts lie."""
    lengths: dict[str, int] = {}
    for index, record in _mapping(found).items():
        key, name = index.told("fqn"), record.told("relative_path")
        (start, length) = _numbers((record.told("offset"), record.told("length")), str(key))
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"it names {name!r}, which is not a file of this folder")
        if key not in tensors:
            raise ValueError(f"{key!r} has a place and no size")
        if name not in lengths:
            file = folder / name
            lengths[name] = file.stat().st_size if file.is_file() else 0
        if start + length > lengths[name]:
            raise ValueError(f"{name} ends before the place of {key}")
        number = index.told("index")
        offset = torch.Size(_numbers(index.told("offset"), key))
        yield (
            MetadataIndex(key, offset, number if isinstance(number, int) else None),
            _StorageInfo(name, start, length),
        )


def _check_filled(
    tensors: Mapping[str, TensorStorageMetadata], places: Mapping[MetadataIndex, _StorageInfo]
) -> None:
    """No tensor is larger than its parts, nor these than what the files hold."""
    held = {(index.fqn, index.offset): place.length for index, place in places.items()}
    for key, tensor in tensors.items():
        if sum(prod(chunk.sizes) for chunk in tensor.chunks) != prod(tensor.size):
            raise ValueError(f"{key}: its parts do not make a tensor of {list(tensor.size)}")
        for chunk in tensor.chunks:
            if prod(chunk.sizes) * tensor.properties.dtype.itemsize > held.get((key, chunk.offsets), 0):
                raise ValueError(f"{key}: a part of it is larger than what its file holds")


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError("its lists are none")
    return value


def _numbers(values: Any, key: str) -> tuple[int, ...]:
    """Counts that are counts."""
    if not isinstance(values, tuple) or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"{key}: sizes and places must be counts")
    return values
