"""A run that two processes began goes on with one, and with four."""

import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Losses
from tests.faults.harness import Runs, losses
from tests.faults.injections import before_step, send


@pytest.mark.fault(
    "resume at another world size",
    injected="two processes are stopped in step 3; the same command for one process, and for four",
    handled="the same global batches, the same losses to rounding",
    lost="nothing; numbers to rounding",
)
def test_two_processes_begin_and_one_or_four_go_on(runs: Runs, tmp_path: Path, uninterrupted: Losses) -> None:
    rows = "data.micro_batch=1"
    hit = partial(before_step, {3: partial(send, signal.SIGTERM)})
    assert runs.run(tmp_path / "1", rows, world=2, faults={0: hit}).codes == [128 + signal.SIGTERM] * 2
    shutil.copytree(tmp_path / "1", tmp_path / "4")
    for world in (1, 4):
        done = runs.run(tmp_path / str(world), rows, world=world)
        assert done.codes == [0] * world, done.err()
        assert "resumed after step 3" in done.out() and "saved on data 2; it goes on on" in done.out()
        for step, (loss, norm, batch) in losses(tmp_path / str(world)).items():
            assert (loss, norm) == pytest.approx(uninterrupted[step][:2], rel=1e-3), step
            assert batch == uninterrupted[step][2], f"step {step} is of other samples"
