"""kill -9 in every phase of a save, one after the other, in one run of two ranks that is always started again."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Losses
from tests.faults.harness import Runs, losses, saved
from tests.faults.injections import MOMENTS, inside_save, kill
from train.launch.peers import PEER_LOST

ON_RANK_1 = ("one tensor written", "files written")  # the rest of a save is rank 0's
NAMED = ("folder named", "latest half replaced", "old folder unnamed")  # from here on it counts


@pytest.mark.fault(
    "kill -9 inside a save",
    injected="SIGKILL to a rank of 2 in each of 8 phases of a save in the background, from the empty folder to the removal of an "
    "older one; after each the same command",
    handled="the other rank ends at once and says so; the run goes on from the newest whole checkpoint; the next save removes what "
    "was left",
    lost="the steps since the last checkpoint, done again",
)
@pytest.mark.fault(
    "SIGKILL of a rank",
    injected="8 times in one run of two, to either rank, whatever the other one is at",
    handled="exit code 75 (try again) of the other rank; the same command goes on",
    lost="the steps since the last checkpoint, done again",
)
def test_killed_in_every_phase_of_a_save_a_run_still_gets_to_its_end(
    runs: Runs, tmp_path: Path, uninterrupted_of_two: Losses
) -> None:
    folder, newest = tmp_path / "run", 0
    often = "stage.checkpoint_every=1"
    for moment in MOMENTS:
        victim = 1 if moment in ON_RANK_1 else 0
        # the last phase is there once a third folder is written, so it is met in a later save
        save = 2 if moment == "old folder unnamed" else 1
        killed = runs.run(folder, often, world=2, faults={victim: partial(inside_save, moment, save, kill)})
        assert killed.codes[victim] == -signal.SIGKILL, f"{moment}: {killed.out()}\n{killed.err()}"
        assert killed.codes[1 - victim] == PEER_LOST, f"{moment}: {killed.err(1 - victim)}"
        assert newest == 0 or f"resumed after step {newest} of " in killed.out(), f"{moment}: {killed.out()}"
        newest += save - (moment not in NAMED)
        whole = [name for name in saved(folder) if name.startswith("step-") and ".tmp-" not in name]
        assert (whole[-1:] or ["step-0"]) == [f"step-{newest:08d}" if newest else "step-0"], f"{moment}: {saved(folder)}"
        assert any("tmp" in name for name in saved(folder)) == (moment != "folder named"), f"{moment}: {saved(folder)}"
    finished = runs.run(folder, often, world=2)
    assert finished.codes == [0, 0], finished.err()
    assert losses(folder) == uninterrupted_of_two
    assert saved(folder) == ["latest", "step-00000007", "step-00000008"], "what was left has not been removed"
    assert (folder / "checkpoints" / "latest").read_text() == "step-00000008"
