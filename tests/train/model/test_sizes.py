"""The configurations of conf/model, built on the meta device and counted. Published figures: reference of
DeepSeek-OCR.
"""

from collections import Counter
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from parallel.layers import Experts
from train.config import ModelConfig
from train.model.optical import OpticalModel, build

pytestmark = pytest.mark.usefixtures("one_process")

CONF = Path(__file__).parents[3] / "conf" / "model"
UNUSED_CLIP_PATCH_EMBEDDING = (
    1024 * 3 * 14 * 14
)  # in the released checkpoint, never evaluated; our model leaves it out


def built(name: str) -> OpticalModel:
    config = OmegaConf.merge(OmegaConf.structured(ModelConfig), OmegaConf.load(CONF / f"{name}.yaml"))
    model = build(OmegaConf.to_object(config), image_token=0, device="meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    return model


def test_deepseek_ocr_has_the_released_number_of_parameters_in_each_part() -> None:
    model = built("deepseek_ocr_3b")
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        words = name.split(".")
        depth = 3 if name.startswith("encoder.window.neck") else 2
        parts[".".join(words[:depth])] += parameter.numel()
    assert parts["encoder.window"] == 88_883_456
    assert parts["encoder.window.neck"] == 787_456
    assert parts["encoder.compressor"] == 5_898_240
    assert parts["encoder.global"] + UNUSED_CLIP_PATCH_EMBEDDING == 303_177_728
    assert parts["encoder.projector"] == 2_622_720
    assert parts["encoder.newline"] + parts["encoder.separator"] == 2_560
    assert parts["decoder.embedding"] == parts["decoder.output_layer"] == 165_478_400
    assert parts["decoder.decoder"] == 2_603_777_280
    assert sum(parts.values()) + UNUSED_CLIP_PATCH_EMBEDDING == 3_336_106_240


def test_deepseek_ocr_activates_574_million_parameters_per_token() -> None:
    model = built("deepseek_ocr_3b")
    layers = sum(parameter.numel() for parameter in model.decoder.decoder.parameters())
    routed = sum(p.numel() for m in model.modules() if isinstance(m, Experts) for p in m.parameters())
    head = model.decoder.output_layer.weight.numel()
    active = layers - routed + routed * 6 // 64 + head
    assert round(active / 1e6, 1) == 574.1


@pytest.mark.parametrize(("name", "least", "most"), [("tiny", 2e6, 3e6), ("small", 45e6, 60e6)])
def test_the_other_sizes_are_what_they_are_called(name: str, least: float, most: float) -> None:
    assert least < sum(parameter.numel() for parameter in built(name).parameters()) < most
