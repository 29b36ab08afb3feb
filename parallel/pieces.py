"""Tensors on disk without a layout: each rank writes its piece of a global tensor, any rank reads any piece of it.

The files are torch's distributed checkpoint (DCP). Two things of it are replaced because they run code found in a
file: its index is read by `parallel.metadata`, and items that are not tensors, which DCP pickles, neither are written nor
accepted.
"""

import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from parallel import metadata
from parallel.errors import CheckpointError

# DCP logs what it also raises, and warns when one process reads alone. Said once here: a background thread that
# changed these settings for a while would change them for the training thread, too.
logging.getLogger("torch.distributed.checkpoint").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.distributed\.checkpoint")
warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)


@dataclass
class Piece:
    """This rank's part of a global tensor.

    tensor: the values, of the shape of the part (leading axes of size 1 may be missing). offset: where the part
    begins in the global tensor. first: whether this rank, among those that hold the same part, is the one to write it.
    """

    key: str
    tensor: torch.Tensor
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    first: bool = True

    @classmethod
    def whole(cls, key: str, tensor: torch.Tensor, first: bool = True) -> "Piece":
        """A tensor that is not split."""
        return cls(key, tensor, tuple(tensor.shape), (0,) * tensor.ndim, first)

    def view(self) -> torch.Tensor:
        """The values with as many axes as the global tensor; the same memory."""
        return self.tensor.detach().view(
            (1,) * (len(self.shape) - self.tensor.ndim) + tuple(self.tensor.shape)
        )


def write(folder: Path, pieces: Sequence[Piece], group: dist.ProcessGroup | None = None) -> None:
    """Writes the pieces of all ranks into an existing folder, and waits for the disk; all ranks of `group` call it."""
    writer = dcp.FileSystemWriter(folder, thread_count=1)
    with _plain_errors(folder):
        dcp.save({}, storage_writer=writer, planner=_SavePlanner(pieces), process_group=group)


def read(folder: Path, pieces: Sequence[Piece], alone: bool = False) -> None:
    """Fills the tensors of the pieces in place, whatever pieces were written; all ranks call it, or one `alone`.

    Raises CheckpointError for a key that is not there or has another shape.
    """
    with _plain_errors(folder):
        dcp.load({}, storage_reader=_SafeReader(folder), planner=_LoadPlanner(pieces), no_dist=alone)


def contents(folder: Path) -> dict[str, TensorStorageMetadata]:
    """What a folder holds, by key. Raises CheckpointError when `.metadata` is not a list of tensors."""
    return _SafeReader(folder).read_metadata().state_dict_metadata  # type: ignore[return-value]


class _SafeReader(dcp.FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        found = metadata.read(Path(self.path))
        assert found.storage_meta is not None
        found.storage_meta.load_id = self.load_id
        return found


class _SavePlanner(dcp.DefaultSavePlanner):
    def __init__(self, pieces: Sequence[Piece]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.pieces = {(piece.key, piece.offset): piece for piece in pieces if piece.first}

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([_write_item(piece) for piece in self.pieces.values()])
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        index = write_item.index
        return self.pieces[index.fqn, tuple(index.offset or ())].view()


class _LoadPlanner(dcp.DefaultLoadPlanner):
    def __init__(self, pieces: Sequence[Piece]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.pieces = {(piece.key, piece.offset): piece for piece in pieces}

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None
        items: list[ReadItem] = []
        for piece in self.pieces.values():
            stored = self.metadata.state_dict_metadata.get(piece.key)
            if not isinstance(stored, TensorStorageMetadata):
                raise CheckpointError(f"The checkpoint has no {piece.key}.")
            if tuple(stored.size) != piece.shape:
                raise CheckpointError(
                    f"{piece.key} is {list(stored.size)} in the checkpoint and {list(piece.shape)} in this model: "
                    "the configurations differ."
                )
            items += create_read_items_for_chunk_list(piece.key, stored, [_chunk(piece)])
        return LoadPlan(items)

    def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
        index = read_item.dest_index
        target = self.pieces[index.fqn, tuple(index.offset or ())].view()
        for axis, (start, length) in enumerate(zip(read_item.dest_offsets, read_item.lengths)):
            target = target.narrow(axis, start, length)
        return target


def _chunk(piece: Piece) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(offsets=torch.Size(piece.offset), sizes=piece.view().shape)


def _write_item(piece: Piece) -> WriteItem:
    return WriteItem(
        index=MetadataIndex(piece.key, torch.Size(piece.offset)),
        type=WriteItemType.SHARD,
        tensor_data=TensorWriteData(
            chunk=_chunk(piece),
            properties=TensorProperties.create_from_tensor(piece.tensor.detach()),
            size=torch.Size(piece.shape),
        ),
    )


@contextmanager
def _plain_errors(folder: Path) -> Iterator[None]:
    """DCP reports the errors of all ranks as one long traceback; this raises the first of them alone."""
    try:
        yield
    except dcp.CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        known = [cause for cause in causes if isinstance(cause, CheckpointError)]
        raise known[0] if known else CheckpointError(f"{folder}: {_in_words(folder, causes[0])}.") from error


def _in_words(folder: Path, error: BaseException) -> str:
    """torch's writer of files does not say why a write failed, and what it says of a full disk nobody would understand."""
    if "inline_container" in str(error) or "unexpected pos" in str(error):
        free = shutil.disk_usage(folder).free if folder.exists() else 0
        return f"a file could not be written to its end; {free / 1e9:.3f} GB are free there"
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else repr(error)
