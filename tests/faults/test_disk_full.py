"""A disk that is full for a while, for real: training goes on, the older checkpoint stays, no line is missing in the end."""

from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Losses
from tests.faults.harness import Runs, losses, rows, saved, status
from tests.faults.injections import (
    bad_sample_each_step,
    before_step,
    each,
    fill,
    inside_save,
    largest_file,
    long_rows,
    make_room,
)


@pytest.mark.fault(
    "disk full",
    injected="a mounted file system is filled to the last byte in the middle of the second save's files, and stays full for a save "
    "and a half; metrics.jsonl, status.json and bad_samples.jsonl are on it",
    handled="each is told once; the older checkpoint stays; lines wait in memory and are written when there is room; so are checkpoints",
    lost="nothing",
)
def test_a_full_disk_costs_checkpoints_while_it_is_full_and_nothing_else(
    runs: Runs, small_disk: Path, uninterrupted: Losses
) -> None:
    folder = small_disk / "run"
    full = partial(inside_save, "one tensor written", 2, partial(fill, small_disk))
    later = partial(before_step, {6: partial(fill, small_disk), 8: partial(make_room, small_disk)})  # what the failed save freed, too
    done = runs.run(folder, faults={0: partial(each, bad_sample_each_step, long_rows, full, later)})
    assert done.codes == [0], done.err()
    assert losses(folder) == uninterrupted
    kept = rows(folder / "bad_samples.jsonl")
    assert [row["key"] for row in kept] == [f"page-{number}" for number in range(1, 9)], "a bad sample is not named"
    told = done.out() + "".join(row.get("note", "") for row in rows(folder / "metrics.jsonl"))
    assert "step-00000004 was not written: " in told and "could not be written to its end; 0.000 GB are free" in told
    assert "step-00000006 was not written: it needs" in told, "the third save was not refused before it began"
    assert done.err().count("bad_samples.jsonl cannot be written (No space left on device)") == 1
    assert "metrics.jsonl is written again; no line is missing" in done.out()
    assert "bad_samples.jsonl is written again; no line is missing" in done.err()
    assert saved(folder) == ["latest", "step-00000002", "step-00000008"]
    assert status(folder)["state"] == "finished" and status(folder)["saved_step"] == 8


@pytest.mark.fault(
    "disk full",
    injected="no file may grow any more (RLIMIT_FSIZE, as for a plain user at a quota) from the second save to the end of the run",
    handled="it trains to its last step, then fails with the reason; the same command goes on from the older checkpoint",
    lost="the steps since the last checkpoint, done again",
)
def test_a_disk_that_stays_full_ends_the_run_with_the_reason_and_the_older_checkpoint(
    runs: Runs, tmp_path: Path, uninterrupted: Losses
) -> None:
    folder = tmp_path / "run"
    done = runs.run(folder, faults={0: partial(inside_save, "folder made", 2, partial(largest_file, 2048))})
    assert done.codes == [2], done.err()
    assert "step-00000008 was not written: " in done.err() and "File too large" in done.err()
    assert "lines could not be written and are lost" in done.out()
    assert "Traceback" not in done.err()
    assert status(folder)["state"] == "failed" and status(folder)["saved_step"] == 2
    again = runs.run(folder)
    assert again.codes == [0] and "resumed after step 2" in again.out()
    assert losses(folder) == uninterrupted
