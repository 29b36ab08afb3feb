"""Rounding and masks that cannot work are refused before torch, with the override that would do."""

import pytest

from conf.compose import Composer
from conf.errors import ConfigError
from train.config import Config
from train.validate import validate
from train.validate.quantize import prune_faults, quantize_faults

pytest.importorskip("torchao", reason="torchao is absent: install the extra `quantize`")
IMPOSSIBLE = {
    "quantize.bits=5": "The nearest: quantize.bits=4",
    "quantize=int4 quantize.group=48": "quantize.group=32; 0 is one scale for each output",
    "quantize=int4 quantize.group=128 quantize.targets=[experts]": "64 inputs of decoder.decoder.layers.1.mlp.experts.fc2. The nearest that divides those of all targets: quantize.group=64",
    "quantize=int4 quantize.group=1": "does not divide",
    "quantize=int4 parallel.tensor=2 quantize.group=64": "32 inputs of decoder.decoder.layers.1.mlp.shared_experts.linear_fc2 on each of 2 tensor ranks",
    "quantize=int4 quantize.activation_bits=4": "choose 8, or 0",
    "quantize.activation_bits=8": "quantize=int8_int4, or quantize.activation_bits=0",
    "quantize=int4 quantize.scales=learnd": "Did you mean quantize.scales=learned?",
    "quantize=int4 quantize.scales=learned quantize.symmetric=false": "quantize.symmetric=true, or quantize.scales=dynamic",
    "quantize=fp8 quantize.group=32": "Choose quantize=fp8, which sets quantize.group=0",
    "quantize=int4 quantize.numbers=fp8": "quantize.bits=4: quantize.numbers=fp8 has 8 bits",
    "quantize=int4 quantize.targets=[atention]": "Did you mean attention?",
    "quantize=int8_int4 quantize.targets=[attention,head]": "decoder.output_layer does not show",
    "quantize=int4 tune=lora tune.dropout=0.1": "Choose tune.dropout=0, or quantize=none",
    "quantize=int4 quantize.targets=[head] model.decoder.tied_embeddings=true": "Leave both out",
    "prune=wanda prune.sparsity=1": "prune.sparsity=0.5",
    "prune=wanda prune.batches=0": "must be 1 or more",
    "prune=wanda prune.targets=[convolutions]": "encoder.window.patch_embed does not show",
    "prune=two_of_four prune.sparsity=0.25": "Choose prune.sparsity=0.5, or prune.pattern=free",
    "prune=magnitude prune.pattern=1:4": "choose one of free, 2:4",
    "prune.kind=wunda": "Did you mean prune.kind=wanda?",
}
POSSIBLE = (
    "quantize=int4", "quantize=int8", "quantize=int3", "quantize=int2", "quantize=int8_int4", "quantize=fp8",
    "prune=magnitude", "prune=wanda", "prune=two_of_four",
)  # fmt: skip


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("config", Config)


def faults(composer: Composer, typed: str) -> str:
    config = composer.build(typed.split())
    return "\n".join([*quantize_faults(config), *prune_faults(config)])


@pytest.mark.parametrize("typed", IMPOSSIBLE)
def test_an_impossible_value_names_what_would_do(composer: Composer, typed: str) -> None:
    assert IMPOSSIBLE[typed] in faults(composer, typed)


def test_training_refuses_them(composer: Composer) -> None:
    with pytest.raises(ConfigError, match=r"quantize\.bits=4"):
        validate(composer.build(["quantize.bits=5"]), world=1, files=False)


@pytest.mark.parametrize("model", ["tiny", "small", "deepseek_ocr_3b"])
@pytest.mark.parametrize("choice", POSSIBLE)
def test_every_choice_fits_every_model_on_two_tensor_ranks(composer: Composer, choice: str, model: str) -> None:
    assert not faults(composer, f"{choice} model={model} parallel.tensor=2")


def test_a_model_whose_inputs_do_not_divide_is_told_the_group_that_does(composer: Composer) -> None:
    told = faults(composer, "quantize=int4 model=deepseek_ocr_3b parallel.tensor=8 quantize.targets=[dense]")
    assert "856 inputs" in told and "quantize.group=8" in told


def test_missing_torchao_is_told_with_the_command_that_installs_it(composer: Composer, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'microfiche[quantize]'" in faults(composer, "quantize=int4")
