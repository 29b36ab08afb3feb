"""The real wandb beside a run: one run of every step, whatever is killed; what is away or hangs holds nothing up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.train.relay.wandb_files import (
    REPOSITORY,
    core_of,
    history,
    is_finished,
    killed_while_it_trains,
    monitor,
    offline_folders,
    records,
    steps,
    wandb,
)
from tests.train.relay.wandb_server import serving
from train.monitor import wandb_logger
from train.relay.opened import described

Found = TypeVar("Found")


@pytest.fixture(autouse=True)
def wandb_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.fixture(scope="module", autouse=True)
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """A run whose server is away: it waits for it, at its own side, while the other tests run."""
    folder = tmp_path_factory.mktemp("away") / "run"
    code = (
        "import time; from pathlib import Path; from tests.train.relay.wandb_files import monitor, steps; t = time.monotonic()\n"
        f"m = monitor(Path({str(folder)!r}), wandb='online'); steps(m, 1, 99, 1.0); print(time.monotonic() - t, flush=True); m.close()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    environment |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield folder, process
    process.kill()
    process.wait()


def waited_for(what: Callable[[], Found], seconds: float = 60.0) -> Found:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def relay_of(folder_monitor: object) -> "subprocess.Popen[bytes]":
    process = folder_monitor._wandb._relay  # type: ignore[attr-defined]
    assert process is not None
    return process


def test_a_killed_run_that_goes_on_is_one_wandb_run_with_every_step_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipe" / "encoder"
    killed_while_it_trains(folder)
    (folder.parent / "recipe.json").write_text('{"name": "smoke"}')
    (folder / "config.yaml").write_text("stage: {name: encoder}\noverrides: [tune=dora, optim.lr=1]\nseed: 3\n")
    waited_for(lambda: is_finished(folder))  # what the run started ended well
    assert [step for step, _ in history(folder)] == list(range(1, 10)), "steps were lost with the killed process"
    again = monitor(folder, start=5)  # steps 6 to 9 are done again, with other values
    steps(again, 6, 12, loss=2.0)
    again.close()
    assert f"to look: wandb leet {folder}; to upload: wandb sync {folder}/wandb/offline-run-" in capfd.readouterr().out
    [written] = offline_folders(folder)
    found = history(written)
    assert [step for step, _ in found] == list(range(1, 13))
    assert [values["loss"] for _, values in found] == [1.0] * 5 + [2.0] * 7
    assert [(step, values["image_gain"]) for step, values in found if "image_gain" in values] == [(3, 0.3), (6, 0.6), (9, 0.9), (12, 1.2)]
    shown = wandb("leet", "inspect", "--summary", folder)  # the way by which `wandb leet FOLDER` finds it
    assert f"recipe/encoder ({again.wandb_id})" in shown and "image_gain" in shown
    kinds = {record["type"]: record for record in records(written)}
    run = kinds["run"]["run"]
    assert (run["run_group"], run["job_type"], run["tags"]) == ("recipe", "encoder", ["tune=dora"])
    assert run["config"]["update"]["seed"] == 3
    axes = [record["metric"] for record in records(written) if record["type"] == "metric"]
    assert {"glob_name": "*", "step_metric": "tokens"}.items() <= axes[-1].items()
    assert again.wandb_id is not None
    with serving() as server:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        wandb("sync", written)
        assert server.steps(again.wandb_id) == list(range(1, 13))
        more = monitor(folder, start=10)  # steps 11 and 12 are at the server already
        steps(more, 11, 14, loss=3.0)
        more.close()
        assert [step for step, _ in history(offline_folders(folder)[-1])] == [13, 14]
        wandb("sync", offline_folders(folder)[-1])
        assert server.steps(again.wandb_id) == list(range(1, 15))


def test_a_killed_run_that_goes_on_online_sends_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        first = monitor(tmp_path / "run", wandb="online")
        steps(first, 1, 9, loss=1.0)
        assert first.wandb_id is not None
        core = waited_for(lambda: core_of(relay_of(first).pid))
        for process in (relay_of(first).pid, core):
            os.kill(process, signal.SIGKILL)
        first.close()
        again = monitor(tmp_path / "run", start=5, wandb="online")
        steps(again, 6, 12, loss=2.0)
        again.close()
        assert server.steps(first.wandb_id) == list(range(1, 13))


@pytest.mark.fault(
    "wandb outage",
    injected="wandb's service is killed while the run trains",
    handled="the run does not notice; told in one line; wandb starts again and gets every step from metrics.jsonl",
    lost="nothing",
)
def test_a_service_that_dies_is_told_once_and_nothing_is_lost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    running = monitor(folder)
    steps(running, 1, 9, loss=1.0)
    os.kill(waited_for(lambda: offline_folders(folder) and core_of(relay_of(running).pid)), signal.SIGKILL)
    started = time.monotonic()
    steps(running, 10, 20, loss=1.0)
    assert time.monotonic() - started < 1
    waited_for(lambda: "what wandb misses is sent again" in capfd.readouterr().out)
    running.close()
    [written] = offline_folders(folder)
    assert [step for step, _ in history(written)] == list(range(1, 21))
    assert "wandb stopped" not in capfd.readouterr().out


@pytest.mark.fault(
    "wandb outage",
    injected="wandb's service hangs when the run ends",
    handled="the run's end waits for it for 30 s, then leaves it to itself",
    lost="nothing",
)
def test_a_service_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_logger, "FINISH_SECONDS", 2.0)
    running = monitor(tmp_path / "run")
    steps(running, 1, 3, loss=1.0)
    relay = relay_of(running)
    core = waited_for(lambda: offline_folders(tmp_path / "run") and core_of(relay.pid))
    os.kill(core, signal.SIGSTOP)
    try:
        steps(running, 4, 6, loss=1.0)
        started = time.monotonic()
        running.close()
        assert time.monotonic() - started < 4
    finally:
        relay.kill()
        relay.wait()
        os.kill(core, signal.SIGKILL)
    assert "wandb is not done after 2 s" in capfd.readouterr().out


def test_another_run_in_the_folder_is_another_wandb_run(tmp_path: Path) -> None:
    first = wandb_logger.WandbLogger(tmp_path, "offline", "microfiche", "run", print)
    same = wandb_logger.WandbLogger(tmp_path, "offline", "microfiche", "run", print)
    other = wandb_logger.WandbLogger(tmp_path, "offline", "microfiche", "run", print, anew=True)
    for logger in (first, same, other):
        assert logger._relay is not None
        logger._relay.kill()
        logger._relay.wait()
    assert first.id == same.id != other.id


def test_a_run_that_is_no_stage_of_a_recipe_has_no_group(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("run: {name: other}\nstage: {name: qat, start_from: runs/base}\n")
    told = described(tmp_path)
    assert (told["name"], told["group"], told["job_type"]) == ("other", None, "qat")
    assert told["notes"].startswith("starts from runs/base")


@pytest.mark.fault(
    "wandb outage",
    injected="wandb's server cannot be reached",
    handled="the run does not wait; within 30 s wandb goes on offline, and one line says how to upload it",
    lost="nothing",
)
def test_an_unreachable_server_costs_the_run_nothing(unreachable: tuple[Path, "subprocess.Popen[str]"]) -> None:
    folder, process = unreachable
    said, _ = process.communicate(timeout=60)
    assert float(said.splitlines()[0]) < 2, "the run waited for wandb"
    [line] = [line for line in said.splitlines() if "could not start" in line]
    assert "wandb online could not start" in line and f"wandb sync {folder}/wandb/offline-run-" in line
    assert said.count("wandb is not done") <= 1 and "Traceback" not in said
    waited_for(lambda: is_finished(folder))
    assert [step for step, _ in history(folder)] == list(range(1, 100))
