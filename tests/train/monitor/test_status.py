"""status.json of runs that start again, stop, and fail, also before there is a monitor."""

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from conf.errors import ConfigError
from parallel.errors import CheckpointError
from train.launch.signals import StopFlag
from train.monitor.monitor import Monitor
from train.monitor.status import ending_told
from train.run_folder import read_json
from train.saver import Saver


@dataclass
class Logger:
    wandb: str = "disabled"
    project: str = "microfiche"
    console_every: int = 10


def monitor_of(folder: Path, start_step: int = 0) -> Monitor:
    return Monitor(folder, Logger(), 9, start_step=start_step)


def test_each_start_counts_and_what_ended_the_one_before_is_forgotten(tmp_path: Path) -> None:
    for start, saved in enumerate((0, 0, 4)):
        monitor = monitor_of(tmp_path, saved)
        monitor.status("running")
        found = read_json(tmp_path / "status.json")
        assert (found["state"], found["restarts"], found["saved_step"]) == ("running", start, saved)
        assert "error" not in found
        monitor.failed(CheckpointError("the disk is full"))
        found = read_json(tmp_path / "status.json")
        assert (found["state"], found["error"], found["user_error"]) == ("failed", "CheckpointError: the disk is full", True)


def test_the_time_from_the_signal_until_all_is_saved_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = monitor_of(tmp_path)
    with StopFlag() as stop:
        assert stop.age == 0
        os.kill(os.getpid(), signal.SIGUSR1)
        monitor.step(7, {"loss": 1.0})
        stop._came -= 2.0  # as if it took so long
        monitor.saved(7)
        monitor.ended(False, stop)
    found = read_json(tmp_path / "status.json")
    assert (found["state"], found["signal"], found["step"], found["saved_step"]) == ("stopped", "SIGUSR1", 7, 7)
    assert 2.0 <= found["saved_seconds"] < 30.0
    assert re.search(r"SIGUSR1 at step 7: saved in [2-9]\.\d s, stopped", capsys.readouterr().out)
    monitor.ended(True, stop)
    assert read_json(tmp_path / "status.json")["state"] == "finished"


def test_an_error_before_there_is_a_monitor_is_told_and_one_that_it_told_is_not_told_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), ending_told(tmp_path / "new", 0):
        raise ConfigError("no such vocabulary")
    found = read_json(tmp_path / "new" / "status.json")
    assert (found["state"], found["error"], found["user_error"]) == ("failed", "ConfigError: no such vocabulary", True)
    with pytest.raises(RuntimeError), ending_told(tmp_path, 0):
        monitor = monitor_of(tmp_path)
        monitor.step(3, {"loss": 1.0})
        monitor.failed(RuntimeError("it broke"))
        before = read_json(tmp_path / "status.json")
        raise RuntimeError("it broke")
    assert read_json(tmp_path / "status.json") == before and before["step"] == 3 and not before["user_error"]
    with pytest.raises(KeyboardInterrupt), ending_told(tmp_path, 0):
        raise KeyboardInterrupt
    found = read_json(tmp_path / "status.json")
    assert (found["state"], found["signal"], found["step"], found["restarts"]) == ("stopped", "SIGINT", 3, 1)
    with pytest.raises(RuntimeError), ending_told(tmp_path / "other rank", 1):
        raise RuntimeError
    assert not (tmp_path / "other rank" / "status.json").exists(), "rank 0 tells for all"


class Disk:
    """An engine that writes in the background, and fails when told to."""

    def __init__(self) -> None:
        self.full = False

    def save(self, *details: object) -> None:
        """Begins."""

    def wait(self) -> None:
        if self.full:
            raise CheckpointError("the disk is full")


def test_a_step_counts_as_saved_when_it_is_whole_on_disk() -> None:
    told: list[int] = []
    disk = Disk()
    saver = Saver(disk, Path(), 3, True, lambda text: None, saved=told.append)  # type: ignore[arg-type]
    saver.save(4, {})
    assert told == []
    saver.save(8, {})
    assert told == [4]
    disk.full = True
    with pytest.raises(CheckpointError):
        saver.finish()
    assert told == [4]
