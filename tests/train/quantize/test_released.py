"""Packed integers, unpacked by compressed-tensors and read by transformers: the logits of the model that was trained with rounding.

transformers' own loader of packed tensors does not manage this architecture (train/quantize/released.py).

Tolerance: that of the same model in floats (tests/train/convert/test_transformers.py), 1e-5 of the largest logit.
"""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

pytest.importorskip("torchao", reason="torchao is absent: install the extra `quantize`")
pytest.importorskip("compressed_tensors", reason="compressed-tensors is absent: install the extra `quantize`")
pytest.importorskip(
    "transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`"
)
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import save_file

from data_pipeline.data_config import DataConfig
from parallel import checkpoint
from parallel.snapshot import cut, describe
from parallel.topology import Topology
from tests.train.convert.folders import IMAGE, exported, read, size
from tests.train.convert.test_transformers import loaded as loaded_by_transformers
from tests.train.model.peer_model import our_logits, page_batch, their_logits, tolerance
from tests.train.model.small_model import without_zeros
from train.config import Config, ModelConfig, QuantizeConfig
from train.model.optical import build
from train.quantize.command import load, rounded
from train.quantize.config import RoundConfig
from train.quantize.released import write_packed
from train.transform.attach import attach

pytestmark = pytest.mark.usefixtures("one_process")
DECODER = ["attention", "dense", "shared_experts", "experts"]
SCHEMES = {
    "int4 in groups": QuantizeConfig(bits=4, group=16, targets=DECODER),
    "int8 by rows, asymmetric, with the encoder": QuantizeConfig(
        bits=8, group=0, symmetric=False, targets=[*DECODER, "window", "global", "projector"]
    ),
    "int3 learned": QuantizeConfig(bits=3, group=16, scales="learned", targets=DECODER),
    "int4 asymmetric": QuantizeConfig(bits=4, group=16, symmetric=False, targets=["attention", "experts"]),
    "fp8": QuantizeConfig(bits=8, numbers="fp8", group=0, targets=[*DECODER, "window"]),
}


def trained(folder: Path, quantize: QuantizeConfig) -> torch.nn.Module:
    """A run that was trained with rounding, and its model."""
    model: ModelConfig = size()
    module = without_zeros(build(model, IMAGE, seed=3)).eval()
    config = Config(
        model=model, data=DataConfig(tokenizer="bytes", modes=["128"], max_length=256), quantize=quantize
    )
    attach(config, module)
    pieces = [piece for entry in describe(module) for piece in cut(entry, entry.data, "model.")]
    facts = {"step": 7, "updates": 7, "topology": asdict(Topology()), "extra": {}}
    checkpoint.save(folder / "checkpoints", 7, pieces, facts, keep=1)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    return module


def packed(run: Path, target: Path, dtype: str = "fp32") -> list[str]:
    """The released folder; the notes."""
    config = RoundConfig(checkpoint=str(run), to=str(target), form="released", dtype=dtype)
    loaded = load(config)
    found = rounded(config, loaded)
    target.mkdir()
    return write_packed(target, config, loaded, found)


def unpacked(source: Path, target: Path) -> Path:
    """The same folder in floats, by the library whose format it is."""
    described = json.loads((source / "config.json").read_text())
    settings = QuantizationConfig.model_validate(described.pop("quantization_config"))
    scheme, tensors = settings.config_groups["group_0"], read(source)
    compressor = BaseCompressor.get_value_from_registry(settings.format)
    for name in [name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")]:
        own = {
            key: tensors.pop(f"{name}.{key}")
            for key in compressor.compression_param_names(scheme)
            if f"{name}.{key}" in tensors
        }
        tensors[f"{name}.weight"] = compressor.decompress(own, scheme)["weight"]
    target.mkdir()
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    (target / "config.json").write_text(json.dumps(described))
    return target


@pytest.mark.parametrize("name", SCHEMES)
def test_packed_integers_are_the_model_that_was_trained(tmp_path: Path, name: str) -> None:
    ours = trained(tmp_path / "run", SCHEMES[name])
    packed(tmp_path / "run", tmp_path / "released")
    theirs = loaded_by_transformers(unpacked(tmp_path / "released", tmp_path / "plain"))
    batch = page_batch(size(), ["128", "96+64"], [(90, 200), (300, 200)], seed=1)
    with torch.no_grad():
        expected = our_logits(ours, batch)
        torch.testing.assert_close(their_logits(theirs, batch), expected, rtol=0, atol=tolerance(expected))


def test_the_plain_export_says_that_its_weights_are_not_rounded(tmp_path: Path) -> None:
    trained(tmp_path / "run", SCHEMES["int4 in groups"])
    assert any("form=released" in note for note in exported(tmp_path / "run", tmp_path / "plain"))


def test_integers_take_the_room_that_they_need(tmp_path: Path) -> None:
    trained(tmp_path / "run", SCHEMES["int4 in groups"])
    notes = packed(tmp_path / "run", tmp_path / "released", "bf16")
    tensors = read(tmp_path / "released")
    name = "model.layers.1.mlp.experts.3.down_proj"
    outputs, inputs = size().decoder.width, size().decoder.expert_ffn
    assert f"{name}.weight" not in tensors
    assert tensors[f"{name}.weight_packed"].shape == (outputs, inputs // 8)
    assert tensors[f"{name}.weight_scale"].shape == (outputs, inputs // 16)
    assert tensors["lm_head.weight"].dtype == torch.bfloat16
    config = json.loads((tmp_path / "released" / "config.json").read_text())["quantization_config"]
    assert config["config_groups"]["group_0"]["weights"]["group_size"] == 16
    assert "lm_head" in config["ignore"] and not any("experts" in layer for layer in config["ignore"])
    assert "packed" in notes[-1] and not (tmp_path / "released" / "run").exists()
