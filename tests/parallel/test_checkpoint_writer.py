import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ranks import launch

from parallel import checkpoint, integrity, pieces
from parallel.checkpoint_writer import Writer, close_all
from parallel.errors import CheckpointError
from parallel.pieces import Piece

ROWS = 1000


def state(step: int) -> tuple[torch.Tensor, list[Piece]]:
    """This rank's half of a tensor, full of `step`, and a tensor that all have and rank 0 writes."""
    rank = dist.get_rank()
    mine = torch.full((ROWS,), float(step))
    shared = torch.full((3,), 10.0 * step)
    return mine, [
        Piece("mine", mine, (2 * ROWS,), (rank * ROWS,)),
        Piece.whole("shared", shared, first=rank == 0),
    ]


def stored(root: Path) -> tuple[str, float, float]:
    """(folder, value of "mine", value of "shared") of the newest valid checkpoint, read as one process would."""
    folder = checkpoint.newest(root)
    mine, shared = torch.zeros(2 * ROWS), torch.zeros(3)
    pieces.read(folder, [Piece.whole("mine", mine), Piece.whole("shared", shared)], alone=True)
    assert (mine == mine[0]).all() and (shared == shared[0]).all()
    return folder.name, mine[0].item(), shared[0].item()


@contextmanager
def replaced(owner, name, value):
    """A function of a module replaced for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    yield before
    setattr(owner, name, before)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def returns_before_the_files_are_there(root):
    """(what there was when `save` had returned, sums of the training thread meanwhile, what was stored)"""
    writer, gate = Writer(), threading.Event()
    mine, parts = state(1)
    describe = integrity.describe
    with replaced(integrity, "describe", lambda files: gate.wait(60) and describe(files)):
        writer.save(root, 1, parts, {"at": 1}, 2, background=True)
        finished = [folder.name for folder in checkpoint.folders(root)]
        mine.fill_(-1.0)  # training goes on
        sums = []
        for number in range(200):
            vector = torch.full((8,), float(number))
            dist.all_reduce(vector)
            sums.append(vector[0].item())
        gate.set()
        writer.wait()
    writer.close()
    return finished, sums == [2.0 * number for number in range(200)], stored(root)


def one_at_a_time(root):
    """The most saves that were under way at once, and the folders after three quick ones with two kept."""
    writer, running, most = Writer(), [], []

    def slow(*arguments):
        running.append(1)
        most.append(len(running))
        time.sleep(0.2)
        running.pop()
        return write(*arguments)

    with replaced(pieces, "write", slow) as write:
        for step in (1, 2, 3):
            writer.save(root, step, state(step)[1], {}, 2, background=True)
        writer.close()
    return max(most), names(root)


def fails_on_one_rank(root):
    """Messages of `wait` and of the next `save` after the disk of rank 1 was full twice; what there is in the end."""
    writer = Writer()
    writer.save(root, 1, state(1)[1], {}, 1)
    messages = []

    def full(self, item):
        if dist.get_rank() == 1:
            raise OSError(28, "No space left on device")
        return resolve(self, item)

    with replaced(pieces._SavePlanner, "resolve_data", full) as resolve:
        for report in (writer.wait, lambda: writer.save(root, 3, state(3)[1], {}, 1, background=True)):
            writer.save(root, 2, state(2)[1], {}, 1, background=True)
            with pytest.raises(CheckpointError) as error:
                report()
            messages.append(str(error.value))
            writer.wait()  # it is said once
    between = names(root), stored(root)
    writer.save(root, 4, state(4)[1], {}, 1, background=True)
    writer.close()
    return messages, between, stored(root)


def on_two_ranks(folder):
    """All that two ranks are needed for."""
    dist.init_process_group("gloo")
    cases = (returns_before_the_files_are_there, one_at_a_time, fails_on_one_rank)
    return {case.__name__: case(Path(folder) / case.__name__) for case in cases}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two ranks saw, and the folder of the files."""
    folder = tmp_path_factory.mktemp("two")
    return launch(on_two_ranks, 2, str(folder)), folder


def test_a_save_in_the_background_returns_at_once_and_keeps_what_training_then_changes(two):
    for rank in two[0]:
        finished, training_undisturbed, found = rank["returns_before_the_files_are_there"]
        assert finished == [] and training_undisturbed
        assert found == ("step-00000001", 1.0, 10.0)


def test_every_rank_checksums_its_own_files(two):
    folder = two[1] / "returns_before_the_files_are_there" / "step-00000001"
    assert integrity.verify(folder) == []
    assert names(folder) == [".metadata", "__0_0.distcp", "__1_0.distcp", "manifest.json"]
    flipped = bytearray((folder / "__1_0.distcp").read_bytes())
    flipped[-5] ^= 1
    (folder / "__1_0.distcp").write_bytes(flipped)
    assert integrity.verify(folder) == ["__1_0.distcp: checksum differs"]


def test_saves_follow_each_other_and_old_folders_go_when_the_new_one_is_there(two):
    for rank in two[0]:
        assert rank["one_at_a_time"] == (1, ["latest", "step-00000002", "step-00000003"])


@pytest.mark.fault(
    "disk full",
    injected="ENOSPC on one rank of two, in the background",
    handled="the same message on both ranks; the older checkpoint stays, the next save works",
    lost="nothing",
)
def test_a_failed_save_is_one_message_on_every_rank_and_leaves_the_older_checkpoint(two):
    for rank in two[0]:
        messages, (left, older), later = rank["fails_on_one_rank"]
        for message in messages:
            assert "fails_on_one_rank/step-00000002 was not written: " in message
            assert "No space left on device" in message and len(message.splitlines()) == 1
        assert left == ["latest", "step-00000001"] and older == ("step-00000001", 1.0, 10.0)
        assert later == ("step-00000004", 4.0, 40.0)


def killed(folder, victim, moment):
    """Ends `victim` by SIGKILL when its thread comes to `moment` of a second save; what the others then say."""
    dist.init_process_group("gloo")
    writer, root = Writer(), Path(folder)
    writer.save(root, 1, state(1)[1], {}, 1)
    owner, name = {
        "writing": (pieces._SavePlanner, "resolve_data"),
        "checksums": (integrity, "describe"),
        "renaming": (integrity, "write_json"),
    }[moment]
    if dist.get_rank() == victim:
        setattr(owner, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    writer.save(root, 2, state(2)[1], {}, 1, background=True)
    with pytest.raises(CheckpointError) as error:
        writer.wait()
    (root / f"{dist.get_rank()}.txt").write_text(str(error.value))


@pytest.fixture
def alone():
    """This process as a world of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    close_all()
    dist.destroy_process_group()


@pytest.mark.parametrize(("victim", "moment"), [(1, "writing"), (1, "checksums"), (0, "renaming")])
def test_a_rank_killed_while_its_thread_writes_costs_only_that_checkpoint(alone, tmp_path, victim, moment):
    with pytest.raises(EOFError):  # the victim gives no answer
        launch(killed, 2, str(tmp_path), victim, moment)
    assert stored(tmp_path) == ("step-00000001", 1.0, 10.0)
    assert (tmp_path / "latest").read_text() == "step-00000001"
    assert "step-00000002 was not written" in (tmp_path / f"{1 - victim}.txt").read_text()
    assert any(".tmp-" in name for name in names(tmp_path))
    with_next = Writer()
    with_next.save(tmp_path, 2, [Piece.whole("x", torch.ones(3))], {}, 1)
    with_next.close()
    assert [name for name in names(tmp_path) if name.startswith("step")] == ["step-00000002"]


SCRIPT = """
import sys, time, torch, torch.distributed as dist
from pathlib import Path
from parallel import integrity
from parallel.checkpoint_writer import Writer
from parallel.pieces import Piece
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
describe = integrity.describe
def slow(files):
    time.sleep(1)
    {action}
integrity.describe = slow
writer = Writer()
writer.save(Path(sys.argv[1]), 7, [Piece.whole("x", torch.ones(3))], {{}}, 1, background=True)
"""


def run_script(action: str, root: Path) -> str:
    """What a process says on stderr that ends while its save is under way."""
    command = [sys.executable, "-c", SCRIPT.format(action=action), str(root)]
    place = Path(__file__).parents[2]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=place)
    assert ran.returncode == 0
    return ran.stderr


def test_a_process_that_ends_waits_for_its_save_and_tells_of_one_that_failed(tmp_path):
    assert run_script("return describe(files)", tmp_path / "good") == ""
    assert names(tmp_path / "good") == ["latest", "step-00000007"]
    said = run_script("raise OSError(30, 'Read-only file system')", tmp_path / "bad")
    assert said.startswith(f"{tmp_path / 'bad' / 'step-00000007'} was not written: ")
    assert "Read-only file system" in said and len(said.splitlines()) == 1


def test_a_save_without_space_enough_says_how_much_is_missing_and_where(alone, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 3_000_000})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage)
    writer = Writer()
    writer.save(tmp_path, 1, [Piece.whole("x", torch.ones(600_000))], {}, 1)  # 2.4 MB
    writer.save(tmp_path, 2, [Piece.whole("x", torch.ones(900_000))], {}, 1, background=True)  # 3.6 MB
    with pytest.raises(CheckpointError) as error:
        writer.wait()
    assert f"needs 0.004 GB and {tmp_path} has 0.003 GB free, 0.001 GB too few" in str(error.value)
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["step-00000001"]


def test_a_place_that_cannot_be_written_is_named(alone, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/root/step-00000001 was not written: .*Not a directory"):
        Writer().save(tmp_path / "file" / "root", 1, [Piece.whole("x", torch.ones(3))], {}, 1)
