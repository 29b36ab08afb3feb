"""A shard that is cut while the run reads it: what is beyond the cut is left out, named, and nothing else changes."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Losses
from tests.faults.harness import Runs, losses, rows, status
from tests.faults.injections import before_step


def cut(shard: Path) -> None:
    """Half of the file is gone."""
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size // 2)


@pytest.mark.fault(
    "truncated or missing shard",
    injected="a shard is cut to half its length while the run reads it",
    handled="samples beyond the cut become rows without loss, each named in bad_samples.jsonl; above data.max_bad_fraction the run ends",
    lost="those samples",
)
def test_samples_beyond_a_cut_are_named_and_the_run_goes_on(
    runs: Runs, pages: Path, tmp_path: Path, uninterrupted: Losses
) -> None:
    shutil.copytree(pages, tmp_path / "pages")
    shard = tmp_path / "pages" / "train" / "ratio-4" / "shard-00000.tar"
    settings = (f"data.root={tmp_path / 'pages'}", "data.max_bad_fraction=0.5", "data.prefetch=0")
    done = runs.run(tmp_path / "run", *settings, faults={0: partial(before_step, {3: partial(cut, shard)})})
    assert done.codes == [0], done.err()
    assert status(tmp_path / "run")["state"] == "finished"
    found = losses(tmp_path / "run")
    assert all(found[step] == uninterrupted[step] for step in (1, 2, 3))
    named = rows(tmp_path / "run" / "bad_samples.jsonl")
    assert named and all((row["source"], row["shard"]) == ("ratio-4", "shard-00000.tar") for row in named)
    assert [found[step][2] for step in found] == [uninterrupted[step][2] for step in found], "other samples have moved"
