"""Optimizers and first weights that cannot be: each is refused with the reason and the nearest choice."""

import importlib.util
from pathlib import Path

import pytest

from conf.compose import FOLDER, Composer
from conf.errors import ConfigError
from train.config import Config
from train.validate import validate
from train.validate.optim import NAMES

IMPOSSIBLE = {
    "optim=muon engine.zero=3": "stage 3 leaves a stripe of each to every rank. Choose engine.zero=2, or optim=adamw",
    "optim=galore engine.offload=true": "Choose engine.offload=false, or optim=adamw_8bit",
    "optim=adafactor engine.zero=3": "or optim=adamw_8bit",
    "optim=schedule_free engine.zero=3": "stage 3 steps groups in parts. Choose engine.zero=2",
    "optim=schedule_free optim.schedule=cosine": "Choose optim.schedule=constant, or optim=adamw",
    "optim=schedule_free optim.betas=[0,0.9]": "cannot be 0",
    "optim=lomo engine.clip=1": "Choose engine.clip=0, or optim=adamw_8bit",
    "optim=lomo engine.clip=0 engine.zero=2": "Choose engine.zero=1",
    "optim=lomo engine.clip=0 data.global_batch=16 data.micro_batch=4": "Choose data.micro_batch=16",
    "optim.name=muom": "Did you mean optim.name=muon?",
    "optim.momentum=1": "such as optim.momentum=0.95",
    "optim.newton_schulz_steps=0": "must be above 0",
    "optim.beta2_decay=0.8": "such as optim.beta2_decay=-0.8",
    "optim.update_clip=0": "must be above 0",
    "optim.rank=0": "optim.rank=0: must be above 0",
    "optim.refresh_every=0": "must be above 0",
    "optim.scale=0": "must be above 0",
    "init.kind=kaimin": "Did you mean init.kind=kaiming?",
    "init.residual=none": "choose one of zero, scaled, depth, plain",
    "init.std=0": "must be above 0",
}


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("config", Config)


def chosen(folder: str) -> list[str]:
    return sorted(path.stem for path in Path(FOLDER / folder).glob("*.yaml"))


@pytest.mark.parametrize("overrides", IMPOSSIBLE)
def test_what_cannot_be_is_refused_with_what_can(composer: Composer, overrides: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(composer.build(overrides.split()), 1, files=False)
    assert IMPOSSIBLE[overrides] in str(caught.value)


@pytest.mark.parametrize("name", chosen("optim"))
def test_every_optimizer_of_conf_works_where_matrices_stay_whole(composer: Composer, name: str) -> None:
    fused = ["engine.clip=0", "data.global_batch=4", "data.micro_batch=4"] if name == "lomo" else []
    for zero in ("engine=zero1", "engine=zero1_bf16", *([] if fused else ["engine=zero2"])):
        validate(composer.build([f"optim={name}", zero, "stage.steps=4000", *fused]), 1, files=False)


@pytest.mark.parametrize("name", chosen("init"))
def test_every_init_of_conf_works(composer: Composer, name: str) -> None:
    validate(composer.build([f"init={name}"]), 1, files=False)


def test_every_rule_has_a_file() -> None:
    assert set(NAMES) == set(chosen("optim")) - {"paper"}


def test_an_absent_library_is_named(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(ConfigError, match="bitsandbytes is not installed. Install it"):
        validate(composer.build(["optim=adamw_8bit"]), 1, files=False)
