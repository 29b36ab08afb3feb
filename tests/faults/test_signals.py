"""A cluster's signals, as clusters send them: to one rank only, again in the middle of the save, before anything is ready."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Losses
from tests.faults.harness import Runs, losses, saved, status
from tests.faults.injections import before_step, each, inside_save, send


@pytest.mark.fault(
    "signal on one rank only",
    injected="SIGUSR1 to rank 1 of 2 in step 3; the same command again, SIGTERM to rank 1 in its third step; again",
    handled="both ranks agree after each step, stop at the same one, save, exit with 128 + the signal; the same command goes on",
    lost="nothing",
)
@pytest.mark.fault(
    "second signal",
    injected="SIGTERM and SIGUSR1 to both ranks while the last checkpoint's files are written",
    handled="nothing changes: the save goes on and the first signal is the one that is told",
    lost="nothing",
)
def test_a_signal_to_one_rank_stops_both_at_the_same_step_and_later_ones_change_nothing(
    runs: Runs, tmp_path: Path, uninterrupted_of_two: Losses
) -> None:
    folder = tmp_path / "run"
    again = partial(inside_save, "files written", 1, partial(send, signal.SIGTERM, signal.SIGUSR1))
    rare = "stage.checkpoint_every=100"
    for number, step, before in ((signal.SIGUSR1, 3, 0), (signal.SIGTERM, 3, 3)):
        hit = partial(before_step, {step: partial(send, number)})
        stopped = runs.run(folder, rare, world=2, faults={0: again, 1: partial(each, hit, again)})
        assert stopped.codes == [128 + number] * 2, stopped.err()
        assert status(folder)["state"] == "stopped" and status(folder)["step"] == before + step
        assert saved(folder)[-1] == f"step-{before + step:08d}"
    finished = runs.run(folder, rare, world=2)
    assert finished.codes == [0, 0] and "resumed after step 6" in finished.out()
    assert losses(folder) == uninterrupted_of_two
