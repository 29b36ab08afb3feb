"""The command line as a user meets it: messages, exit codes, help, sweeps, completion."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conf import completion
from conf.command import run
from conf.compose import Composer
from conf.errors import ConfigError
from data_pipeline.errors import DataError
from train.config import Config

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Inner:
    lr: float = 0.1


@dataclass
class Small:
    """A command without a file in conf/."""

    name: str = "run"
    optim: Inner = field(default_factory=Inner)
    overrides: list[str] = field(default_factory=list)


def answer(
    *argv: str, main: object = lambda config: None, check: object = None, name_option: str | None = None
) -> int:
    return run(main, "small_test", Small, argv, "What it does.", ["optim.lr=2"], check, name_option)  # type: ignore[arg-type]


def test_main_gets_the_typed_configuration_and_returns_the_exit_code() -> None:
    seen: list[Small] = []
    assert answer("optim.lr=3", main=seen.append) == 0
    assert seen == [Small(optim=Inner(3.0), overrides=["optim.lr=3"])]
    assert answer(main=lambda config: 7) == 7


@pytest.mark.parametrize("error", [ConfigError("seed=x: bad"), DataError("shard-1 is broken")])
def test_a_users_error_is_one_message_and_exit_code_2(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(config: Small) -> None:
        raise error

    assert answer(main=main) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert str(error) in captured


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        answer(main=lambda config: 1 / 0)


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main(config: Small) -> None:
        raise KeyboardInterrupt

    assert answer(main=main) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_check_comes_before_main(capsys: pytest.CaptureFixture[str]) -> None:
    def check(config: Small) -> None:
        raise ConfigError("optim.lr=-1: must be above 0.")

    assert answer(main=lambda config: pytest.fail("main ran"), check=check) == 2
    assert "must be above 0" in capsys.readouterr().err


def test_only_rank_0_tells_a_configuration_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert answer("optim.lrr=1") == 2
    assert capsys.readouterr().err == ""

    def main(config: Small) -> None:
        raise DataError("my disk is full")

    assert answer(main=main) == 2
    assert "[rank 1]: my disk is full" in capsys.readouterr().err


def test_torchrun_gets_the_message_for_its_own_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its long trace ends with the root cause: our sentence, whichever rank was first to end."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    reply = tmp_path / "attempt_0" / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(reply))
    monkeypatch.setenv("RANK", "1")
    assert answer("optim.lrr=1") == 2
    assert capsys.readouterr().err == ""
    failure = ProcessFailure(1, 4711, 2, str(reply))
    assert "no option optim.lrr. Did you mean optim.lr?" in str(ChildFailedError("train", {1: failure}))


def test_a_sweep_runs_every_combination_under_a_name_of_its_own() -> None:
    seen: list[tuple[float, str]] = []
    main = lambda config: seen.append((config.optim.lr, config.name))  # noqa: E731
    assert answer("-m", "optim.lr=1,2", "name=a,b", main=main) == 0
    assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "a"), (2.0, "b")]
    seen.clear()
    assert answer("-m", "optim.lr=1,2", main=main, name_option="name") == 0
    assert seen == [(1.0, "run-optim.lr=1"), (2.0, "run-optim.lr=2")]


def test_a_sweep_with_one_mistake_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("-m", "optim.lr=1,abc", main=lambda config: pytest.fail("main ran")) == 2
    assert "optim.lr must be a number, not abc" in capsys.readouterr().err


def test_help_tells_what_groups_options_and_examples_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda config: None, "config", Config, ["--help"], "Trains.", ["stage=encoder"]) == 0
    text = capsys.readouterr().out
    for part in (
        "Trains.",
        "stage",
        "encoder  pretrain*",
        "optim.warmup_steps",
        "of `lr`, at the end of the cosine",
        "--cfg job",
        "stage=encoder",
    ):
        assert part in text
    assert "  overrides" not in text


def test_cfg_job_prints_yaml_that_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("--cfg", "job", "optim.lr=4", main=lambda config: pytest.fail("main ran")) == 0
    assert "lr: 4" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--frob"], ["--cfg", "everything"], ["--config-dir", "/nowhere"]])
def test_wrong_flags_are_user_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(*argv) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "found"),
    [("stage=e", ["stage=encoder"]), ("optim.warm", ["optim.warmup_steps="]), ("opti", ["optim.", "optim="]),
     ("optim.lr=", ["optim.lr=0.004"]), ("zzz", [])],
)  # fmt: skip
def test_completion_offers_groups_options_and_values(word: str, found: list[str]) -> None:
    assert completion.candidates(Composer("config", Config), word) == found


def test_the_shell_function_asks_python_m(tmp_path: Path) -> None:
    line = f"{sys.executable} -m train stage=e"
    script = f"""
        eval "$('{sys.executable}' -m train -sc install=bash)"
        COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
        _microfiche_complete; echo "[${{COMPREPLY[*]}}]" """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[stage=encoder ]"


def test_a_mistake_is_answered_at_once_anywhere_without_traces(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = os.times()
    started = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "train", "stage=pretrian"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    after = os.times()
    used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "python -m train: stage=pretrian" in ran.stderr
    assert list(tmp_path.iterdir()) == []
    assert used < 1.0, f"{used:.2f} s of processor, {time.monotonic() - started:.2f} s in all"


def test_an_override_may_be_longer_than_the_name_of_a_file() -> None:
    names: list[str] = []
    assert answer(f"name={'x' * 300}", main=lambda config: names.append(config.name)) == 0
    assert names == ["x" * 300]
