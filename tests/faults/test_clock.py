"""A wall clock that jumps: nothing that decides anything looks at it."""

import os
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Losses
from tests.faults.harness import Runs, losses, rows
from tests.faults.injections import before_step, clock_jumps, each, gather_each_step, kill
from train.monitor.catalogue import metric_of

DAY = 86400.0


@pytest.mark.fault(
    "clock skew",
    injected="the wall clock jumps a day back in step 3 and two days forward in step 5; SIGKILL in step 8; checkpoints get file times in "
    "reverse order, the newest one a flipped byte; started again with the clock a day back",
    handled="durations are of the monotonic clock, checkpoints are ordered by their step",
    lost="the steps since the last checkpoint, done again",
)
def test_a_clock_that_jumps_changes_neither_durations_nor_what_is_resumed(
    runs: Runs, tmp_path: Path, uninterrupted: Losses
) -> None:
    folder = tmp_path / "run"
    jumps = {3: partial(clock_jumps, -DAY), 5: partial(clock_jumps, 2 * DAY), 8: kill}
    keep = ("stage.keep_checkpoints=3", "stage.save_in_background=false")
    killed = runs.run(folder, *keep, faults={0: partial(each, gather_each_step, partial(before_step, jumps))})
    assert killed.codes == [-9], killed.err()
    for step in (2, 4, 6):
        checkpoint = folder / "checkpoints" / f"step-{step:08d}"
        for path in (*checkpoint.iterdir(), checkpoint):
            os.utime(path, (1e9 - step * DAY,) * 2)
    victim = next((folder / "checkpoints" / "step-00000006").glob("*.distcp"))
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    again = runs.run(folder, *keep, faults={0: partial(each, gather_each_step, partial(clock_jumps, -DAY))})
    assert again.codes == [0], again.err()
    assert "resumed after step 4" in again.out()
    assert losses(folder) == uninterrupted
    measured = [(name, value) for row in rows(folder / "metrics.jsonl") for name, value in row.items() if value is not None]
    durations = [(name, value) for name, value in measured if (metric := metric_of(name)) and metric.unit == "s"]
    assert {"seconds", "data_wait", "checkpoint_age", "save_seconds"} <= {name for name, _ in durations}
    for name, value in durations:
        assert 0 <= value < 600, name
    shares = [value for name, value in measured if name == "goodput"]
    assert shares and all(0 <= share <= 1 for share in shares)
