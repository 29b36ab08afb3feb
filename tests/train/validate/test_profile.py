"""Steps that cannot be recorded are refused before torch is imported."""

import pytest

from conf.compose import compose
from conf.errors import ConfigError
from train.config import Config
from train.validate import validate


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        validate(compose("config", Config, ["stage.steps=20", "optim.warmup_steps=2", *overrides]), 2, files=False)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("profile.steps=[10]", "profile.steps=[10]: give the first and the last step, such as profile.steps=[10,12]"),
        ("profile.steps=[12,10]", "such as profile.steps=[10,12]"),
        ("profile.steps=[0,3]", "the first step is 1 or later"),
        ("profile.steps=[18,22]", "stage.steps=20 is less. Choose profile.steps=[18,20]"),
    ],
)
def test_steps_that_do_not_come(override: str, told: str) -> None:
    assert told in refusal(override)


def test_a_trace_nobody_could_look_at_and_ranks_that_are_not_there() -> None:
    assert "at most 50 steps" in refusal("stage.steps=100", "profile.steps=[1,60]")
    assert "there is no rank 2 among 2. Choose from 0 to 1" in refusal("profile.steps=[2,3]", "profile.ranks=[0,2]")
    assert "nobody would record" in refusal("profile.steps=[2,3]", "profile.ranks=[]")


def test_what_can_be_recorded_passes() -> None:
    asked = ["stage.steps=20", "optim.warmup_steps=2", "profile.steps=[3,3]", "profile.ranks=[1]", "data.micro_batch=1"]
    validate(compose("config", Config, asked), 2, files=False)
