"""Fine-tuning that cannot work is refused before torch, with the override that would do."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conf.compose import FOLDER, Composer
from conf.errors import ConfigError
from train.config import Config
from train.validate import validate
from train.validate.tune import KINDS, tune_file_faults

COMPOSER = Composer("config", Config)
START = "stage.start_from=runs/base"
IMPOSSIBLE = {
    "tune=adapter tune.width=0": "tune.width=0: must be 1 or more",
    "tune=prefix tune.tokens=0": "tune.tokens=0: must be 1 or more",
    "tune.kind=adaptor": "Did you mean tune.kind=adapter?",
    "tune=adapter tune.targets=[atention]": "no layer is named atention. Did you mean attention?",
    "tune=adapter tune.targets=[global]": "not behind encoder.global.layers.0.attn.qkv. Choose of attention, dense",
    "tune=prompt tune.tokens=600": "Choose tune.tokens=487, or data.max_length=625 or more",
    "tune=p_tuning tune.tokens=600": "there is room for 487",
    "tune=selective tune.train=[]": "Name parameters, such as tune.train=['*.bias','decoder.*norm*']",
    "tune=full stage.frozen=[encoder.window]": "Choose stage.frozen=[], or tune=none",
    "tune.train=['*.bias']": "Choose tune=selective, or tune.train=[]",
}


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        validate(COMPOSER.build(["stage=tune", *overrides]), world=1, files=False)
    return str(refused.value)


@pytest.mark.parametrize("wrong", IMPOSSIBLE)
def test_impossible_settings_are_refused_with_what_would_do(wrong: str) -> None:
    assert IMPOSSIBLE[wrong] in refusal(START, *wrong.split())


@pytest.mark.parametrize("kind", ["adapter", "prefix", "prompt", "p_tuning", "p_tuning_v2", "selective"])
def test_weights_that_stay_must_come_from_somewhere(kind: str) -> None:
    assert "Choose the run to start from: stage.start_from=runs/NAME" in refusal(f"tune={kind}")
    validate(COMPOSER.build(["stage=tune", f"tune={kind}", START]), world=1, files=False)


def test_every_kind_has_a_file_that_says_what_it_is_and_where_it_is_from() -> None:
    found = {path.stem for path in (FOLDER / "tune").glob("*.yaml")}
    assert found >= set(KINDS)
    for kind in KINDS:
        text = (FOLDER / "tune" / f"{kind}.yaml").read_text()
        assert text.startswith("# ") and yaml.safe_load(text)["kind"] == kind
        assert kind in ("none", "full") or "arXiv" in text


def test_what_cannot_be_merged_is_no_start(tmp_path: Path) -> None:
    """The remedy names the base that it began with."""
    run = tmp_path / "prompted"
    (run / "checkpoints").mkdir(parents=True)
    config = COMPOSER.build(["stage=tune", "tune=lora", f"stage.start_from={run}"])
    for before, told in (("prompt", True), ("adapter", True), ("lora", False), ("selective", False)):
        facts = {"tune": {"kind": before}, "stage": {"start_from": "runs/base"}}
        (run / "config.yaml").write_text(yaml.safe_dump(facts))
        faults = list(tune_file_faults(config))
        assert bool(faults) == told
        assert all("stage.start_from=runs/base" in fault and f"resume={run}" in fault for fault in faults)


def test_refusing_loads_no_torch() -> None:
    code = "import sys, train.validate.tune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
