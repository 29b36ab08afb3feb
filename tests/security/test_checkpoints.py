"""Checkpoint folders that a stranger made: nothing in them runs, escapes, hangs, or takes memory that they do not fill."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from parallel import checkpoint, integrity
from parallel import pieces as store
from parallel.base import base_of
from parallel.checkpoint import EXTRA
from parallel.errors import CheckpointError
from parallel.pieces import Piece
from tests.security.crafted import DEEP, pipe, running

FACTS = {"step": 3, "extra": {}, "topology": {}}


def written(folder: Path, facts: object = None, text: bytes | None = None) -> Path:
    """A sound checkpoint of one weight."""
    folder.mkdir(parents=True)
    content = text or json.dumps(facts or FACTS).encode()
    blob = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    store.write(folder, [Piece.whole("model.x", torch.arange(6.0).view(2, 3)), Piece.whole(EXTRA, blob)])
    signed(folder)
    return folder


def signed(folder: Path) -> None:
    """The manifest of what is there: an attacker computes checksums, too."""
    files = [path for path in folder.iterdir() if path.name != integrity.MANIFEST and path.is_file()]
    manifest = {"format": 1, "step": 3, "world_size": 1, "files": integrity.describe(files)}
    (folder / integrity.MANIFEST).write_text(json.dumps(manifest))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "step-00000003")


def rewritten(folder: Path, change: Callable[[Metadata], object]) -> None:
    """The index as `change` leaves it, with a manifest that fits."""
    path = folder / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))
    signed(folder)


def weight(metadata: Metadata) -> TensorStorageMetadata:
    found = metadata.state_dict_metadata["model.x"]
    assert isinstance(found, TensorStorageMetadata)
    return found


def huge(metadata: Metadata) -> None:
    weight(metadata).size = torch.Size([10**15])
    weight(metadata).chunks[0].sizes = torch.Size([10**15])
    weight(metadata).chunks[0].offsets = torch.Size([0])


def huge_facts(metadata: Metadata) -> None:
    found: Any = metadata.state_dict_metadata[EXTRA]
    found.size = found.chunks[0].sizes = torch.Size([10**15])


def with_a_gap(metadata: Metadata) -> None:
    weight(metadata).chunks[0].sizes = torch.Size([1, 3])  # the rest would be whatever memory held


def outside_itself(metadata: Metadata) -> None:
    weight(metadata).chunks[0].offsets = torch.Size([1, 0])


def negative(metadata: Metadata) -> None:
    weight(metadata).size = (-2, 3)  # type: ignore[assignment]


def another_file(name: str) -> Callable[[Metadata], None]:
    def change(metadata: Metadata) -> None:
        for place in metadata.storage_data.values():
            place.relative_path = name

    return change


def beyond_its_file(metadata: Metadata) -> None:
    for place in metadata.storage_data.values():
        place.offset = 10**12


def a_list(metadata: Metadata) -> None:
    metadata.state_dict_metadata = [1, 2]  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (huge, "larger than what its file holds"),
        (huge_facts, "larger than what its file holds"),
        (with_a_gap, "its parts do not make a tensor"),
        (outside_itself, "a part of it lies outside"),
        (negative, "must be counts"),
        (another_file("../secret"), "which is not a file of this folder"),
        (another_file("/dev/zero"), "which is not a file of this folder"),
        (another_file(".."), "ends before the place"),
        (another_file("pipe"), "ends before the place"),
        (beyond_its_file, "ends before the place"),
        (a_list, "its lists are none"),
    ],
)
def test_an_index_that_lies_is_refused_before_anything_is_read(
    folder: Path, change: Callable[[Metadata], None], said: str
) -> None:
    shutil.copy(folder / "__0_0.distcp", folder.parent / "secret")
    pipe(folder / "pipe")
    rewritten(folder, change)
    assert integrity.verify(folder) == []  # it is what was written, by whoever wrote it
    for opened in (store.contents, checkpoint.facts):
        with pytest.raises(CheckpointError, match=rf"\.metadata.*{said}"):
            opened(folder)


def test_the_untouched_one_is_read(folder: Path) -> None:
    found = torch.zeros(2, 3)
    store.read(folder, [Piece.whole("model.x", found)], alone=True)
    assert torch.equal(found, torch.arange(6.0).view(2, 3)) and checkpoint.facts(folder) == FACTS


def test_an_index_cannot_change_what_a_class_does(folder: Path) -> None:
    """BUILD on a class sets its attributes: `Path.is_file = torch.Size` would make every damaged folder look whole."""
    for module, name in (
        ("pathlib", "PosixPath"),
        ("torch.distributed.checkpoint.metadata", "Metadata"),
        ("torch.serialization", "_get_layout"),
    ):
        attack = (
            b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"N}X\x05\x00\x00\x00ownedK\x01s\x86b."
        )  # state (None, {"owned": 1})
        (folder / ".metadata").write_bytes(attack)
        with pytest.raises(CheckpointError):
            store.contents(folder)
    from torch.serialization import _get_layout

    assert not any(hasattr(kind, "owned") for kind in (type(folder), Metadata, _get_layout))


def test_a_pickle_in_the_place_of_a_tensor_does_not_run(folder: Path, tmp_path: Path) -> None:
    """The same bytes as files of the data: torch loads them with weights_only."""
    mark = tmp_path / "owned"
    data = folder / "__0_0.distcp"
    content = running(mark)
    for attack in (content, content + bytes(data.stat().st_size)):
        data.write_bytes(attack + bytes(max(0, data.stat().st_size - len(attack))))
        with pytest.raises(CheckpointError):
            store.read(folder, [Piece.whole("model.x", torch.zeros(2, 3))], alone=True)
        with pytest.raises(CheckpointError):
            checkpoint.facts(folder)
    torch.save(Evil(mark), data)
    with data.open("ab") as file:
        file.write(bytes(20_000))
    with pytest.raises(CheckpointError):
        store.read(folder, [Piece.whole("model.x", torch.zeros(2, 3))], alone=True)
    assert not mark.exists()


class Evil:
    """For torch.save."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize(
    "text", [b"{", DEEP, b"[1]", b'"step"', b'{"step": "3"}', b'{"step": 3, "extra": []}', b'{"extra": {}}']
)
def test_facts_that_are_none_are_one_message(tmp_path: Path, text: bytes) -> None:
    folder = written(tmp_path / "step-00000003", text=text)
    with pytest.raises(CheckpointError, match=r"step-00000003: extra_json"):
        checkpoint.facts(folder)


@pytest.mark.parametrize(
    "base", ["../../elsewhere", [], {}, {"folder": 7, "digest": "x"}, {"folder": "../nowhere", "digest": "x"}]
)
def test_a_base_that_is_none_is_one_message(folder: Path, base: object) -> None:
    with pytest.raises(CheckpointError, match="step-00000003"):
        base_of(folder, {"base": base})


def test_pipes_in_the_place_of_files_do_not_hold_a_reader(folder: Path) -> None:
    pipe(folder / ".metadata")
    with pytest.raises(CheckpointError, match="there is no such file"):
        store.contents(folder)
    assert integrity.verify(folder) == [".metadata: missing"]
    pipe(folder / integrity.MANIFEST)
    assert integrity.verify(folder)[0].startswith("manifest.json")


def test_a_folder_of_torch_s_own_with_pickled_settings_is_refused(tmp_path: Path) -> None:
    dcp.save(
        {"x": torch.ones(2), "settings": Evil(tmp_path / "owned")}, checkpoint_id=tmp_path / "step-00000003"
    )
    with pytest.raises(CheckpointError, match="items that are not tensors"):
        store.contents(tmp_path / "step-00000003")
    assert not (tmp_path / "owned").exists()
