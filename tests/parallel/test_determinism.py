"""deterministic=true: what it sets, what it puts back, and what it refuses."""

import os

import pytest
import torch

from conf.compose import compose
from conf.errors import ConfigError
from parallel.determinism import VARIABLES, reproducible, variable_faults
from parallel.errors import ParallelError
from train.config import Config
from train.validate import validate


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def switches() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def test_inside_it_holds_and_afterwards_all_is_as_before() -> None:
    before = switches()
    with reproducible(True):
        assert switches() == (True, True, False)
        assert {name: os.environ.get(name) for name in VARIABLES} == {
            name: values[0] for name, values in VARIABLES.items()
        }
    assert switches() == before and not VARIABLES.keys() & os.environ.keys()
    with reproducible(False):
        assert switches() == before and not VARIABLES.keys() & os.environ.keys()


def test_a_choice_that_somebody_made_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_ALGO", "Tree")
    assert not list(variable_faults(os.environ))
    with reproducible(True):
        assert os.environ["NCCL_ALGO"] == "Tree"
    assert os.environ["NCCL_ALGO"] == "Tree"


def test_what_lets_runs_differ_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_ALGO", "NVLS")
    config = compose("config", Config, ["deterministic=true"])
    with pytest.raises(ConfigError, match=r"NCCL_ALGO=NVLS lets runs differ.*Ring.*deterministic=false"):
        validate(config, 1, files=False)
    validate(compose("config", Config), 1, files=False)


def test_an_operation_without_such_a_way_is_one_message() -> None:
    with (
        pytest.raises(ParallelError, match=r"deterministic=true: put_.*deterministic=false"),
        reproducible(True),
    ):
        torch.zeros(4).put_(torch.tensor([1, 1]), torch.ones(2))
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="another"), reproducible(True):
        raise RuntimeError("another")
