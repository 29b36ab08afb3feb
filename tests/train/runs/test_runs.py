"""The list of runs: real ones at work and killed, and folders in every state, damaged ones too."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.faults.harness import Runs
from tests.train.shard_set import make_records, write_shard_set
from train.monitor.status import Status
from train.runs.__main__ import RunsConfig, check, main
from train.runs.find import found_runs
from train.runs.row import Row
from train.runs.table import chosen, show

ROOT = Path(__file__).parents[3]
LONG_AGO = 3 * 3600


def hang() -> None:
    """The third step never ends."""
    from parallel.engine import Engine

    step, done = Engine.train_step, []

    def stepped(self: Engine, *args: object, **options: object) -> object:
        done.append(1)
        while len(done) == 3:
            time.sleep(1)
        return step(self, *args, **options)  # type: ignore[arg-type]

    Engine.train_step = stepped  # type: ignore[method-assign, assignment]


def a_run(folder: Path, state: str, step: int = 40, age: float = 0.0, **fields: object) -> Path:
    """A run's folder as a run leaves it, `age` seconds after its last word."""
    folder.mkdir(parents=True)
    rows = [
        {"step": number, "loss": 5.0 - number / 100, "grad_norm": 1.0, "pages_per_second": 60.0}
        for number in range(1, step + 1)
    ]
    rows.insert(20, {"step": 20, "image_gain": 1.25})
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 41, "lo'
    )
    (folder / "config.yaml").write_text(
        "run:\n  timeout: 60.0\nstage:\n  name: pretrain\n  steps: 100\nparallel:\n  tensor: 2\n  pipeline: 1\n"
    )
    Status(folder, folder.name, 100, 40).write(state, step, fields)
    for name in ("metrics.jsonl", "status.json"):
        os.utime(folder / name, (time.time() - age,) * 2)
    return folder


def checkpoint(folder: Path, step: int, size: int, told: int) -> None:
    """A checkpoint of one file, whose manifest tells of `told` bytes."""
    place = folder / "checkpoints" / f"step-{step:08d}"
    place.mkdir(parents=True)
    (place / "data").write_bytes(b"x" * size)
    files = {"data": {"bytes": told, "crc32": 0}}
    (place / "manifest.json").write_text(json.dumps({"step": step, "world_size": 4, "files": files}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One run in each state, and a recipe in the middle of its second stage."""
    a_run(tmp_path / "done", "finished", step=100)
    a_run(tmp_path / "told", "stopped", signal="SIGTERM", saved_seconds=1.26)
    broken = a_run(
        tmp_path / "broken",
        "failed",
        error="GuardError: no finite loss for 20 steps\nsamples: a, b",
        user_error=True,
    )
    checkpoint(broken, 20, size=5000, told=5000)
    checkpoint(broken, 40, size=4000, told=5000)
    a_run(tmp_path / "quiet", "running", age=LONG_AGO)
    a_run(tmp_path / "busy", "running")
    a_run(tmp_path / "ahead", "running", age=-LONG_AGO)  # the clock of the file server is wrong
    a_run(tmp_path / "chain" / "encoder", "finished", step=100)
    a_run(tmp_path / "chain" / "pretrain", "running", age=LONG_AGO)
    steps = [("build", "done"), ("encoder", "done"), ("pretrain", "running"), ("report", "waiting")]
    (tmp_path / "chain" / "recipe.json").write_text(
        json.dumps({"steps": [{"name": name, "state": state} for name, state in steps]})
    )
    return tmp_path


def by_name(folder: Path) -> dict[str, Row]:
    return {row.name: row for row in found_runs(folder)}


def test_each_state_is_told_with_where_and_why(folder: Path) -> None:
    rows = by_name(folder)
    assert {name: row.state for name, row in rows.items()} == {
        "done": "finished", "told": "stopped", "broken": "failed", "quiet": "lost", "busy": "running", "ahead": "running",
        "chain": "lost", "chain/encoder": "finished", "chain/pretrain": "lost",
    }  # fmt: skip
    assert rows["told"].why == "SIGTERM, saved in 1.3 s"
    assert rows["broken"].why.startswith(
        "GuardError: no finite loss for 20 steps · step-00000040 damaged: data: 4000 bytes"
    )
    assert rows["quiet"].why == "silent for 3 h 00 min"
    assert rows["chain"].why == "at pretrain" and (rows["chain"].step, rows["chain"].total_steps) == (2, 4)
    busy = rows["busy"]
    assert (busy.step, busy.total_steps, busy.loss, busy.image_gain, busy.pages_per_second) == (
        40,
        100,
        4.6,
        1.25,
        60.0,
    )
    assert (rows["broken"].saved, rows["broken"].layout) == (20, "tp2 ×4") and rows["broken"].bytes > 9000


def test_a_stage_follows_its_recipe_in_the_recipe_s_order(folder: Path) -> None:
    names = [row.name for row in found_runs(folder)]
    place = names.index("chain")
    assert names[place : place + 3] == ["chain", "chain/encoder", "chain/pretrain"]


def test_rows_are_chosen_and_sorted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {row.name for row in chosen(found_runs(folder), "lost", "name")} == {
        "quiet",
        "chain",
        "chain/pretrain",
    }
    by_step = chosen(found_runs(folder), None, "step")
    assert by_step[0].name == "chain" and by_step[-1].step == 100
    main(RunsConfig(str(folder), state="failed", json=True))
    (told,) = json.loads(capsys.readouterr().out)
    assert told["name"] == "broken" and told["saved"] == 20
    for wrong in (
        RunsConfig(str(folder), state="lst"),
        RunsConfig(str(folder), sort="age"),
        RunsConfig(str(folder / "none")),
    ):
        with pytest.raises(Exception, match="choose one of|no such folder"):
            check(wrong)


def test_the_table_shows_a_stranger_s_words_and_does_not_obey_them(folder: Path) -> None:
    a_run(folder / "evil", "failed", error="[red]\x1b]0;owned\x07\x1b[2J[/red] bad")
    console = Console(file=io.StringIO(), width=220)
    show(found_runs(folder), folder, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text and "[red]" in text
    assert "  pretrain" in text and "chain/pretrain" not in text and "silent for 3 h 00 min" in text


def test_a_narrow_terminal_loses_whole_columns_and_no_name_or_figure(folder: Path) -> None:
    """By their order: what a run weighs goes before how far it came."""
    texts = {}
    for width in (220, 80):
        console = Console(file=io.StringIO(), width=width)
        show(found_runs(folder), folder, console)
        texts[width] = console.file.getvalue()  # type: ignore[attr-defined]
    head = texts[80].splitlines()[0].split()
    assert "size" in texts[220].splitlines()[0].split() and "size" not in head
    assert {"run", "state", "step", "loss", "why"} <= set(head)
    for row in found_runs(folder):
        if row.step is not None:
            assert f"{row.step}/{row.total_steps}" in texts[80]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff\xfe", b"[1, 2]", b'{"state": 7, "step": "x"}', b"[" * 100_000, b'{"step": 1e999}'],
)
def test_damaged_files_cost_what_they_said_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    run = a_run(tmp_path / "runs" / "run", "finished")
    checkpoint(run, 20, size=10, told=10)
    files = (
        "status.json",
        "metrics.jsonl",
        "config.yaml",
        ".lock",
        "checkpoints/step-00000020/manifest.json",
    )
    for file in files:
        damaged = tmp_path / "damaged"
        shutil.copytree(run, damaged / "run")
        (damaged / "run" / file).write_bytes(content)
        (row,) = found_runs(damaged)
        assert row.name == "run" and (row.state == "finished") == (file != "status.json")
        show([row], damaged, Console(file=io.StringIO()))
        shutil.rmtree(damaged)
    (tmp_path / "runs" / "recipe.json").write_bytes(content)
    assert [row.name for row in found_runs(tmp_path)] == ["runs", "runs/run"]


def test_a_run_at_work_runs_and_a_killed_one_is_lost_at_once(tmp_path: Path) -> None:
    for number, name in enumerate(
        (
            "train/ratio-4",
            "train/ratio-8",
            "held_out/ratio-4",
            "held_out/ratio-8",
            "held_out/random-4",
            "held_out/random-8",
        )
    ):
        write_shard_set(tmp_path / "pages" / name, make_records(8, seed=number))
    runs = Runs(
        ["stage=encoder", f"data.root={tmp_path}/pages", "stage.steps=4", "optim.warmup_steps=2", "data.global_batch=2", "data.micro_batch=2",
         "run.device=cpu", "model.decoder.layers=2", "stage.evaluation_pages=2"],
        tmp_path / "said",
    )  # fmt: skip
    started = runs.start(tmp_path / "runs" / "real", faults={0: hang})
    metrics = started.folder / "metrics.jsonl"
    started.until(lambda: metrics.exists() and '"step": 2,' in metrics.read_text())
    (row,) = found_runs(tmp_path / "runs")
    assert (row.state, row.step, row.total_steps, row.saved) == ("running", 2, 4, None)
    started.kill()
    (row,) = found_runs(tmp_path / "runs")
    assert row.state == "lost" and row.why.startswith("its process is gone, silent for")


def test_it_needs_no_torch_and_little_time(folder: Path) -> None:
    code = "import sys; from train.runs.__main__ import RunsConfig, main; main(RunsConfig(sys.argv[1])); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
