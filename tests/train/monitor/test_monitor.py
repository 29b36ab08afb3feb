"""metrics.jsonl is the truth whatever happens around it: restarts, other ranks, a wandb that is away or
breaks.
"""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from train.monitor.console import duration
from train.monitor.monitor import Monitor
from train.run_folder import read_rows


@dataclass
class Logger:
    wandb: str = "disabled"
    project: str = "microfiche"
    console_every: int = 10


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200, soft_wrap=True)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_step_is_a_line_and_is_there_before_close(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, Logger(), 3, console=quiet())
    monitor.step(1, {"loss": np.float32(2.5), "pages": 16, "grad_norm": math.inf, "lr": float("nan")})
    monitor.evaluation(1, {"image_gain": 0.25, "accuracy/ratio-4": 0.5})
    assert rows(tmp_path) == [
        {"step": 1, "loss": 2.5, "pages": 16, "grad_norm": None, "lr": None},
        {"step": 1, "image_gain": 0.25, "accuracy/ratio-4": 0.5},
    ]
    monitor.close()


def test_resuming_removes_the_lines_of_lost_work_and_a_half_written_one(tmp_path: Path) -> None:
    first = Monitor(tmp_path, Logger(), 10, console=quiet())
    for step in range(1, 8):
        first.step(step, {"loss": float(step)})
    first.note("killed here")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # what a kill in the middle of a write leaves
    second = Monitor(tmp_path, Logger(), 10, start_step=5, console=quiet())
    second.step(6, {"loss": 60.0})
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 4.0),
        (5, 5.0),
        (6, 60.0),
    ]


def test_a_fresh_start_in_an_old_folder_begins_an_empty_file(tmp_path: Path) -> None:
    Monitor(tmp_path, Logger(), 2, console=quiet()).step(1, {"loss": 1.0})
    Monitor(tmp_path, Logger(), 2, console=quiet())
    assert rows(tmp_path) == []


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    console = quiet()
    monitor = Monitor(tmp_path / "run", Logger(wandb="offline"), 2, rank=1, console=console)
    monitor.step(2, {"loss": 1.0})
    monitor.evaluation(2, {"image_gain": 1.0})
    monitor.note("hello")
    monitor.status("finished")
    monitor.close()
    assert monitor.wandb_id is None and printed(console) == "" and not (tmp_path / "run").exists()


def test_console_speaks_every_n_steps_with_what_matters(tmp_path: Path) -> None:
    console = quiet()
    monitor = Monitor(tmp_path, Logger(console_every=10), 25, console=console, name="encoder")
    for step in range(1, 26):
        if step == 15:
            monitor.evaluation(14, {"image_gain": 1.5})
        monitor.step(step, {"loss": 3.0 - step / 10, "pages": 16 * step, "level": 2})
    lines = printed(console).splitlines()
    assert [line.split("step")[1].split("·")[0].strip() for line in lines] == ["10/25", "20/25", "25/25"]
    assert "image gain" not in lines[0] and "image gain 1.50" in lines[1] and "level 2" in lines[1]
    assert "loss 1.000" in lines[1] and "pages/s" in lines[1] and lines[1].endswith("left")
    assert not lines[2].endswith("left")


def test_status_is_replaced_whole_and_keeps_earlier_fields(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, Logger(), 9, console=quiet(), name="encoder")
    monitor.status("running", parameters=1234)
    monitor.step(4, {"loss": 1.0})
    monitor.status("finished", seconds=2.5)
    status = json.loads((tmp_path / "status.json").read_text())
    assert {
        key: status[key] for key in ("name", "state", "step", "total_steps", "parameters", "seconds")
    } == {
        "name": "encoder",
        "state": "finished",
        "step": 4,
        "total_steps": 9,
        "parameters": 1234,
        "seconds": 2.5,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "status.json"]


def test_the_environment_can_silence_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monitor = Monitor(tmp_path, Logger(wandb="online"), 9, console=quiet())
    monitor.step(1, {"loss": 1.0})
    monitor.close()
    assert monitor.wandb_id is None and [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_rows_that_are_not_whole_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n[1]\n{"loss": 2}\n{"step": 2}\n{"step"')
    assert read_rows(path) == [{"step": 1}, {"step": 2}]
    assert read_rows(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_as_spoken(seconds: float, text: str) -> None:
    assert duration(seconds) == text
