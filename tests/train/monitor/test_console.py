"""The console's line: what matters, and a time left that does not jump with each evaluation."""

import io
import re
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from train.monitor import pace
from train.monitor.console import ConsoleLine, clock_at
from train.monitor.pace import Pace


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(pace.time, "monotonic", lambda: self.now)


def test_the_time_left_counts_evaluations_and_saves_and_is_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, measured, total = Clock(monkeypatch), Pace(), 1000
    told: dict[int, float] = {}
    for step in range(1, total + 1):
        seconds = 30.0 if step == 1 else 1.0  # kernels are chosen
        clock.now += seconds
        measured.step({"seconds": seconds, "pages": 16 * step, "tokens": 1})
        told[step] = measured.left(total - step) or 0.0
        clock.now += 25.0 if step % 100 == 0 else 0.01  # an evaluation and a save
    for step in range(130, 970):
        truth = clock.now - 25.0 - (29.0 + step * 1.01 + 25.0 * (step // 100))
        assert told[step] == pytest.approx(truth, rel=0.25, abs=30)
        assert told[step] <= told[step - 1] + 1.0, "it jumped up"
    assert list(measured.speed()) == ["16 pages/s"]


def line(values: dict[str, object], **kept: float) -> str:
    console = Console(file=io.StringIO(), width=200, soft_wrap=True)
    told = ConsoleLine("run", 1000, 10, console)
    told.evaluation(kept)
    for step in range(1, 11):
        told.step(step, {"seconds": 40.0, "tokens": 4000 * step, **values})
    assert isinstance(console.file, io.StringIO)
    (text,) = console.file.getvalue().splitlines()
    return text


def test_a_line_says_what_matters() -> None:
    assert re.fullmatch(
        r"run  step   10/1000  ·  loss 2.500  ·  image gain 0.40  ·  level 1  ·  100 tokens/s  ·  35% waiting for data  ·  61.2 GiB  ·  "
        r"11 h 00 min left, until (\d\d \w+ )?\d\d:\d\d",
        line({"loss": 2.5, "level": 1}, **{"image_gain": 0.4, "data_wait_share_worst": 0.35, "memory/peak": 61.2}),
    )
    assert line({"loss": 2.5, "level": 0}, data_wait_share_worst=0.02).startswith("run  step   10/1000  ·  loss 2.500  ·  100 tokens/s  ·  11 h")


def test_the_hour_is_told_where_it_is_far_away() -> None:
    assert clock_at(3599) == ""
    assert clock_at(2 * 86400) == f", until {datetime.now() + timedelta(days=2):%d %b %H:%M}"
