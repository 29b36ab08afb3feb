"""What else can happen to a run's folder: another run in it, no right to write, deleted under the run."""

import fcntl
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Losses
from tests.faults.harness import Runs, losses, saved, state_of, status
from tests.faults.injections import before_step, fill, mount, send
from train import run_lock


@pytest.mark.fault(
    "two runs in one folder",
    injected="the same command again while the first one trains; then kill -9 of the first one, and the same command",
    handled="the second one is refused at once and says who is at work there; the lock ends with its process, however that ends",
    lost="nothing",
)
def test_a_second_run_in_a_folder_is_refused_and_a_dead_one_is_in_nobodys_way(
    runs: Runs, tmp_path: Path, uninterrupted: Losses
) -> None:
    folder = tmp_path / "run"
    first = runs.start(folder, faults={0: partial(before_step, {5: partial(send, signal.SIGSTOP)})})
    try:
        first.until(lambda: state_of(first.ranks[0].pid) == "T")
        before = (folder / "metrics.jsonl").read_text()
        second = runs.run(folder)
        assert second.codes == [2]
        (said,) = second.err().strip().splitlines()
        assert f"run.name=run: another run is at work in {folder} (process {first.ranks[0].pid} on " in said
        assert "choose another run.name=" in said
        assert (folder / "metrics.jsonl").read_text() == before and status(folder)["state"] == "running"
    finally:
        first.kill()
    again = runs.run(folder)
    assert again.codes == [0], again.err()
    assert losses(folder) == uninterrupted


def test_the_lock_of_a_machine_that_is_gone_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    """On a shared file system the server ends such a lock after a while; a requeued run must bear with it until then."""
    monkeypatch.setattr(run_lock, "LEASE", 0.5)
    held = os.open(tmp_path / run_lock.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.write(held, b'{"machine": "another", "process": 7, "job": "42", "since": "yesterday"}')
    descriptor, trouble = run_lock._taken(tmp_path)
    assert "process 7 on another, Slurm job 42, since yesterday" in trouble
    os.close(descriptor or -1)
    monkeypatch.setattr(run_lock.time, "sleep", lambda seconds: os.close(held) if seconds < 1 else None)
    descriptor, trouble = run_lock._taken(tmp_path)
    assert trouble == "" and descriptor is not None
    os.close(descriptor)
    assert "if that machine is gone, its lock ends" in capfd.readouterr().err


@pytest.mark.fault(
    "run folder read-only or deleted",
    injected="run.directory on a file system that is mounted read-only, and on one that is full",
    handled="refused before anything is built, with the reason and the setting",
    lost="nothing",
)
def test_a_folder_that_cannot_be_written_is_named_with_the_setting(runs: Runs, tmp_path: Path) -> None:
    with mount(tmp_path / "disk", "ro,size=1m") as disk:
        done = runs.run(disk / "run", world=2)
        assert done.codes == [2, 2]
        (said,) = (done.err() + done.err(1)).strip().splitlines()
        assert f"{disk / 'run'} cannot be written (Read-only file system)" in said and "run.directory=PATH" in said
    with mount(tmp_path / "full", "size=1m") as disk:
        fill(disk)
        done = runs.run(disk / "run")
        assert done.codes == [2] and "run cannot be written (No space left on device)" in done.err(), done.err()
        assert "Traceback" not in done.err()


@pytest.mark.fault(
    "run folder read-only or deleted",
    injected="the whole run folder is deleted while the run trains, between its first two saves",
    handled="it goes on in a new folder, says so, and saves there",
    lost="the lines of metrics.jsonl and the checkpoints that were deleted",
)
def test_a_run_whose_folder_is_deleted_goes_on_in_a_new_one(runs: Runs, tmp_path: Path, uninterrupted: Losses) -> None:
    folder = tmp_path / "run"
    done = runs.run(folder, "stage.save_in_background=false", faults={0: partial(before_step, {4: partial(shutil.rmtree, folder)})})
    assert done.codes == [0], done.err()
    assert "metrics.jsonl was removed while the run wrote it" in done.out()
    assert losses(folder) == {step: found for step, found in uninterrupted.items() if step >= 4}
    assert saved(folder) == ["latest", "step-00000006", "step-00000008"]
    assert status(folder)["state"] == "finished"
    again = runs.run(folder)
    assert again.codes == [0] and "resumed after step 8" in again.out(), again.err()
