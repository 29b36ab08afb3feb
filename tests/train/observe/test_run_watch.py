"""What a run tells about its ranks, its pace, its memory and its life: real runs with a rank that is slow, and one that is killed."""

import gzip
import json
import socket
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness import Runs, Started, notes, rows
from tests.faults.injections import before_step, each, gather_each_step, kill
from tests.train.observe.run_watch_ranks import slow_computing, slow_storage
from tests.train.shard_set import make_records, write_shard_set

STEPS = 8
SETS = {"train/ratio-4": 40, "train/ratio-8": 40} | {f"held_out/{kind}": 4 for kind in ("ratio-4", "ratio-8", "random-4", "random-8")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    pages = tmp_path_factory.mktemp("watched") / "pages"
    for number, (name, count) in enumerate(SETS.items()):
        write_shard_set(pages / name, make_records(count, seed=number))
    return Runs(
        [
            "stage=encoder", f"data.root={pages}", f"stage.steps={STEPS}", "stage.checkpoint_every=4", "stage.save_in_background=false", "stage.evaluate_every=100",
            "stage.evaluation_pages=2", "optim.warmup_steps=2", "data.global_batch=4", "data.micro_batch=1", "run.device=cpu",
            "run.timeout=60", "logger.wandb=disabled", "model.decoder.layers=2",
        ]
    )  # fmt: skip


def gathered(started: Started) -> list[dict]:
    """The rows of steps that hold what ranks told each other."""
    assert set(started.codes) == {0}, started.err()
    return [row for row in rows(started.folder / "metrics.jsonl") if "data_wait_share" in row]


@pytest.mark.fault(
    "slow storage",
    injected="reading takes rank 1 of 2 longer than its steps",
    handled="data_wait_share rises; the rank, its machine and the settings that help are named, once",
    lost="nothing",
)
def test_a_rank_with_slow_storage_is_named_and_steps_are_profiled(runs: Runs, tmp_path: Path) -> None:
    started = runs.run(
        tmp_path / "run", "profile.steps=[3,4]", "profile.ranks=[1]", "data.prefetch=0", world=2,
        faults={0: gather_each_step, 1: slow_storage},
    )  # fmt: skip
    last = gathered(started)[-1]
    waits = [note for note in notes(started.folder) if "for data" in note]
    assert len(waits) == 1 and waits[0].startswith(f"rank 1 ({socket.gethostname()}) waits "), waits
    assert "data.workers=" in waits[0] and "data.prefetch=" in waits[0]
    assert last["data_wait_share_worst"] > 0.1 and last["data_wait_share"] < 0.75 * last["data_wait_share_worst"]
    _is_a_profile(started)


def _is_a_profile(started: Started) -> None:
    folder = started.folder / "profile"
    assert sorted(path.name for path in folder.iterdir()) == ["steps-3-4.rank-1.json.gz", "steps-3-4.rank-1.operators.txt"]
    with gzip.open(folder / "steps-3-4.rank-1.json.gz") as file:
        names = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    assert "aten::mm" in names and any("gloo" in name or "c10d" in name for name in names), "no products, or no messages"
    table = (folder / "steps-3-4.rank-1.operators.txt").read_text()
    assert table.startswith("By time") and "By memory" in table and "aten::mm" in table
    (told,) = [note for note in notes(started.folder) if "recorded" in note]
    assert str(folder) in told and "on rank 1" in told and "perfetto" in told


def test_a_rank_that_computes_slowly_is_named_once_and_a_killed_run_remembers(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert runs.run(folder, world=2, faults={0: gather_each_step, 1: partial(each, slow_computing, partial(before_step, {7: kill}))}).codes[1] == -9
    first = rows(folder / "metrics.jsonl")
    slow = [row["note"] for row in first if "times as long" in row.get("note", "")]
    assert len(slow) == 1 and slow[0].startswith(f"rank 1 ({socket.gethostname()}) computes "), slow
    assert [row["straggler"] for row in first if "straggler" in row][-1] > 1.5

    again = runs.run(folder, world=2, faults=dict.fromkeys((0, 1), gather_each_step))
    last = gathered(again)[-1]
    assert (last["restarts"], last["lost_steps"]) == (1, max(row["step"] for row in first) - 4)
    counted = sum(row["seconds"] for row in rows(folder / "metrics.jsonl") if "grad_norm" in row)
    began = json.loads((folder / "history.json").read_text())["began"]
    assert last["goodput"] == pytest.approx(counted / (folder.joinpath("metrics.jsonl").stat().st_mtime - began), rel=0.2)
    assert 0 < last["goodput"] < 0.9, "the start of two processes is no training"
    saved = [row for row in first if "save_seconds" in row][-1]  # after the save of step 4
    assert 0 < saved["save_seconds"] <= saved["save_blocked"] and 0 < saved["checkpoint_age"] < 60
    assert last["epoch"] > 0 and last["bad_samples"] == 0


def test_a_pipeline_tells_its_bubble_and_every_step_its_rates(runs: Runs, tmp_path: Path) -> None:
    started = runs.run(tmp_path / "run", "parallel=pp2", world=2, faults=dict.fromkeys((0, 1), gather_each_step))
    last = gathered(started)[-1]
    assert 0.02 < last["bubble"] < 0.95
    assert "straggler" not in last, "stages of a pipeline do different work"
    assert 0.1 < last["memory/host"] < 8 and "mfu" not in last
    for row in (row for row in rows(started.folder / "metrics.jsonl") if "grad_norm" in row):
        both = row["vision_tokens_per_second"] + row["tokens_per_second"]
        assert row["tokens_per_second_per_device"] == pytest.approx(both / 2)
        assert row["multimodal_tokens_per_day"] == pytest.approx(both * 86400)
