"""What becomes of a job: each way to end, and the count of crashes through starts."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.launch.restart import Ended, Limits, Record, begin, decide, end, error_file, progress_of

JOB = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "16", "SLURM_JOB_NODELIST": "gpu[1-2]"}
CRASH = 137


@pytest.mark.parametrize(
    ("ended", "word", "told"),
    [
        (Ended(0), "done", "finished"),
        (Ended(1, "finished"), "done", "finished"),  # it fell over after its last word
        (Ended(143, "stopped"), "requeue", "signal"),
        (Ended(138), "requeue", "signal"),  # a command without a status, at the end of its time
        (Ended(143, preempted=True), "requeue", "preempted before"),
        (Ended(143, "failed", fault="data.root=nowhere", preempted=True), "stop", "nowhere"),
        (Ended(137, "running", leaving=True), "stop", "Slurm ends the job"),
        (Ended(143, "stopped", leaving=True), "stop", "Slurm ends the job"),
        (Ended(CRASH, "running"), "again", "exit code 137"),
        (Ended(1, "failed", error="RuntimeError: it broke"), "again", "RuntimeError: it broke"),
    ],
)
def test_each_end_has_its_answer(ended: Ended, word: str, told: str) -> None:
    decided, reason = decide(ended, Record(), Limits())
    assert decided == word and told in reason and "\n" not in reason


def test_crashes_without_a_new_checkpoint_are_answered_here_then_elsewhere_then_not_at_all() -> None:
    record = Record()
    assert [decide(Ended(CRASH), record, Limits())[0] for _ in range(3)] == ["again", "requeue", "stop"]
    assert [decide(Ended(CRASH), Record(), Limits(crashes=1))[0]] == ["stop"]


def test_progress_forgives_crashes_and_so_does_a_stop_in_good_order() -> None:
    record = Record()
    words = [decide(Ended(CRASH, progress=progress), record, Limits())[0] for progress in (10, 10, 20, 20, 30, 30, 30)]
    assert words == ["again", "requeue"] * 2 + ["again", "requeue", "stop"]
    record = Record(crashes=2, progress=30)
    assert decide(Ended(143, "stopped", progress=30), record, Limits())[0] == "requeue"
    assert decide(Ended(CRASH, progress=30), record, Limits())[0] == "again"


def write_status(folder: Path, **fields: object) -> None:
    """As a run does, a moment later."""
    time.sleep(0.02)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps(fields))


def test_a_status_of_before_the_start_says_nothing(tmp_path: Path) -> None:
    write_status(tmp_path, state="stopped")
    begin(tmp_path, JOB)
    assert end(tmp_path, CRASH, JOB)[0] == "again"
    begin(tmp_path, JOB)
    write_status(tmp_path, state="stopped", signal="SIGUSR1", step=7, saved_seconds=1.5)
    assert end(tmp_path, 143, JOB) == ("requeue", "SIGUSR1: saved at step 7, 1.5 s after the signal; queued again")


def test_a_recipe_is_not_finished_with_a_stage(tmp_path: Path) -> None:
    begin(tmp_path, JOB)
    write_status(tmp_path / "encoder", state="finished")
    assert end(tmp_path, CRASH, JOB)[0] == "again"
    begin(tmp_path, JOB)
    write_status(tmp_path / "pretrain", state="stopped")
    assert end(tmp_path, 143, JOB)[0] == "requeue"
    (tmp_path / "recipe.json").write_text(json.dumps({"steps": [{"state": "done"}, {"state": "running"}]}))
    for stage, step in (("encoder", 500), ("pretrain", 20), ("pretrain", 120)):
        (tmp_path / stage / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    (tmp_path / "pretrain" / "checkpoints" / "step-00000130.tmp-1").mkdir()
    assert progress_of(tmp_path) == 500 + 120 + 1


def test_what_a_rank_says_is_the_users_to_mend_is_not_tried_again(tmp_path: Path) -> None:
    """Whatever code srun reports, as it kills the other ranks."""
    from conf import command
    from conf.errors import ConfigError

    begin(tmp_path, JOB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHELASTIC_ERROR_FILE", str(error_file(tmp_path, JOB)))
        command._print_error("python -m train", ConfigError("stage.steps=0: must be above 0."))
    assert end(tmp_path, 143, JOB) == ("stop", "not started again, as the same would happen: stage.steps=0: must be above 0.")
    begin(tmp_path, JOB)
    assert end(tmp_path, 143, JOB)[0] == "again", "the message was of the start before"


def test_too_little_memory_on_any_rank_is_not_tried_again(tmp_path: Path) -> None:
    begin(tmp_path, JOB)
    assert end(tmp_path, 76, JOB)[0] == "stop"
    begin(tmp_path, JOB)
    write_status(tmp_path, state="running")
    (tmp_path / "failed_rank.json").write_text(json.dumps({"rank": 3, "error": "OutOfMemory: in step 1", "user_error": True}))
    assert end(tmp_path, 137, JOB) == ("stop", "not started again, as the same would happen: OutOfMemory: in step 1")
    begin(tmp_path, JOB)
    assert end(tmp_path, 137, JOB)[0] == "again", "that was told of the start before"


def test_the_line_about_a_start_tells_who_ended_the_one_before(tmp_path: Path) -> None:
    assert begin(tmp_path, JOB) == f"starts, 16 processes on gpu[1-2], {tmp_path}"
    assert begin(tmp_path, JOB) == f"Slurm took its nodes away (lost, or preempted at once); start 2, 16 processes on gpu[1-2], {tmp_path}"
    end(tmp_path, CRASH, JOB)
    assert begin(tmp_path, JOB).startswith("start 3, ")
    assert begin(tmp_path, JOB | {"SLURM_JOB_ID": "18"}).startswith("starts, "), "another job counts anew"


def test_who_cannot_count_does_not_start_for_ever(tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "0.json").write_text("half of a fi")
    command = [sys.executable, "-m", "train.launch.restart", "end", str(tmp_path), "1"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert ran.stdout.startswith("stop the count of crashes cannot be kept"), ran.stderr
