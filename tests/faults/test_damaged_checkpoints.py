"""Seven checkpoints damaged in seven ways: each is named, and the run goes on from the eighth."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Losses
from tests.faults.harness import Runs, losses


def flip(folder: Path) -> str:
    """One bit in the middle of the tensors."""
    return _flipped(next(folder.glob("*.distcp")))


def flip_in_metadata(folder: Path) -> str:
    return _flipped(folder / ".metadata")


def cut(folder: Path) -> str:
    file = next(folder.glob("*.distcp"))
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 1)
    return file.name


def remove(folder: Path) -> str:
    file = next(folder.glob("*.distcp"))
    file.unlink()
    return file.name


def file_of_another_step(folder: Path) -> str:
    """Of the same name, size and shapes: torch's distributed checkpoint loads it without a word."""
    file = next(folder.glob("*.distcp"))
    shutil.copy(folder.with_name("step-00000001") / file.name, file)
    return file.name


def folder_of_another_step(folder: Path) -> str:
    """Whole in itself, under a wrong name."""
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("step-00000001"), folder)
    return "manifest.json: of step 1"


def no_manifest(folder: Path) -> str:
    """As if the names had reached the disk and the last file had not."""
    (folder / "manifest.json").unlink()
    return "manifest.json"


DAMAGE: dict[int, Callable[[Path], str]] = {
    8: flip, 7: flip_in_metadata, 6: cut, 5: remove, 4: file_of_another_step, 3: folder_of_another_step, 2: no_manifest,
}  # fmt: skip


@pytest.mark.fault(
    "flipped byte",
    injected="one bit of the tensors of the newest checkpoint, one of its index in the one before it",
    handled="every byte is verified before it is loaded; each refused folder is named with its file; the newest whole one is taken",
    lost="the steps since the last checkpoint, done again",
)
@pytest.mark.fault(
    "half-written checkpoint",
    injected="checkpoints with a file cut by a byte, without a file, without a manifest, with a file or all files of another step",
    handled="refused by name like one with a flipped byte; `latest`, which names a folder that never was, is not trusted",
    lost="the steps since the last checkpoint, done again",
)
def test_damaged_checkpoints_are_named_and_the_newest_whole_one_is_taken(
    runs: Runs, tmp_path: Path, uninterrupted: Losses
) -> None:
    folder = tmp_path / "run"
    keep = ("stage.checkpoint_every=1", "stage.keep_checkpoints=8")
    assert runs.run(folder, *keep).codes == [0]
    checkpoints = folder / "checkpoints"
    named = {step: damage(checkpoints / f"step-{step:08d}") for step, damage in DAMAGE.items()}
    (checkpoints / "latest").write_text("step-00000099")
    again = runs.run(folder, *keep)
    assert again.codes == [0], again.err()
    refused = [line for line in again.err().splitlines() if line.startswith("checkpoint refused")]
    for line, (step, name) in zip(refused, named.items(), strict=True):
        assert f"step-{step:08d}: {name}" in line
    assert f"resumed after step 1 of {checkpoints}" in again.out()
    assert losses(folder) == uninterrupted
    assert (checkpoints / "latest").read_text() == "step-00000008"


MANIFESTS = ("", "{", "[]", "7", '{"files": 3}', '{"files": {}}', '{"files": {".metadata": 3}}', '{"files": {"../../x": null}}', "\x00" * 99)


@pytest.mark.fault(
    "corrupt manifest",
    injected="nine kinds of garbage in the place of manifest.json: empty, cut, other JSON, an empty list of files, zeros",
    handled="the folder is refused by name like any damaged one, and the newest whole one is taken",
    lost="the steps since the last checkpoint, done again",
)
@pytest.mark.parametrize("text", MANIFESTS)
def test_a_manifest_of_garbage_is_one_refused_folder_and_no_error(tmp_path: Path, text: str) -> None:
    from parallel.integrity import describe, verify

    folder = tmp_path / "step-00000002"
    folder.mkdir()
    (folder / ".metadata").write_bytes(b"index")
    (folder / "manifest.json").write_text(json.dumps({"step": 2, "files": describe([folder / ".metadata"])}))
    assert verify(folder) == []
    (folder / "manifest.json").write_text(text)
    (problem,) = verify(folder)
    assert problem.startswith("manifest.json: ")


def _flipped(file: Path) -> str:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file.name
