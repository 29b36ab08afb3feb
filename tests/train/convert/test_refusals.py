"""What is no DeepSeek-OCR, or is damaged, or cannot be expressed: one message that names it, and nothing written."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conf.errors import ConfigError
from data_pipeline.errors import UserError
from data_pipeline.tokenizer import train_tokenizer
from tests.train.convert.folders import exported, imported, released_folder, run_folder, size, tensors
from train.convert.config import ConvertConfig, check

pytestmark = pytest.mark.usefixtures("one_process")
WEIGHTS = "model-00001-of-000002.safetensors"


def edited_config(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def other_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')


def second_version(folder: Path) -> None:
    edited_config(
        folder, lambda config: config.update(vision_config={"width": {"qwen2-0-5b": {}, "sam_vit_b": {}}})
    )


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def compressed_attention(folder: Path) -> None:
    edited_config(folder, lambda config: config["language_config"].update(use_mla=True))


def no_layers(folder: Path) -> None:
    edited_config(
        folder, lambda config: [part.pop("num_hidden_layers") for part in (config, config["language_config"])]
    )


def cut_short(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def cut_to_nothing(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def a_web_page(folder: Path) -> None:
    (folder / WEIGHTS).write_text("<html>not found</html>")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def absent_shard(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def lying_index(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.layers.7.nothing"] = WEIGHTS
    path.write_text(json.dumps(index))


def escaping_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"lm_head.weight": "../x.safetensors"}}'
    )


def large_tokenizer(folder: Path) -> None:
    texts = [" ".join(f"word{number}" for number in range(400))]
    train_tokenizer(texts, 600, folder / "tokenizer.json")


def other_tokenizer(folder: Path) -> None:
    edited_config(folder, lambda config: config.update(image_token_id=7))


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (other_model, r"config\.json: no DeepSeek-OCR \(model_type llama\)"),
        (second_version, r"config\.json: no DeepSeek-OCR: .*DeepSeek-OCR-2"),
        (not_json, r"config\.json cannot be read as JSON"),
        (compressed_attention, r"language_config\.use_mla is True; DeepSeek-OCR has False"),
        (no_layers, r"language_config\.num_hidden_layers must be a whole number, not None"),
        (no_config, r"(?s)not those of model=deepseek_ocr_3b .*no config\.json.*missing.*of another shape"),
        (cut_short, rf"{WEIGHTS} \(\d+ bytes\) is truncated"),
        (cut_to_nothing, rf"{WEIGHTS} \(0 bytes\) is truncated"),
        (a_web_page, rf"{WEIGHTS} .* no safetensors file"),
        (absent_shard, rf"index\.json names files that are not there: {WEIGHTS}"),
        (lying_index, rf"{WEIGHTS} lacks 1 tensors that .* model\.layers\.7\.nothing"),
        (escaping_index, r"'\.\./x\.safetensors', which is not a file of this folder"),
        (large_tokenizer, r"tokenizer\.json has \d+ ids, the weights only 304"),
        (other_tokenizer, r"tokenizer\.json gives <image> the id \d+, the weights know it as 7"),
        (no_tokenizer, r"tokenizer\.json"),
    ],
)
def test_a_folder_that_is_wrong_is_refused_by_name(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    source = released_folder(tmp_path / "released", size(), tensors(size()), shards=2)
    damage(source)
    with pytest.raises(UserError, match=said):
        imported(source, tmp_path / "run")
    assert not any((tmp_path / "run").rglob("step-*"))


def test_missing_surplus_and_bent_tensors_are_listed_together(tmp_path: Path) -> None:
    """Grouped by kind, counted, the first ones by name."""
    values = tensors(size())
    for expert in range(8):
        del values[f"model.layers.1.mlp.experts.{expert}.gate_proj.weight"]
    del values["model.image_newline"]
    values["model.layers.9.extra"] = torch.zeros(2)
    values["model.norm.weight"] = torch.zeros(65)
    with pytest.raises(UserError) as refused:
        imported(released_folder(tmp_path / "released", size(), values), tmp_path / "run")
    message = str(refused.value)
    assert re.search(
        r"9 missing: .*experts\.0\.gate_proj\.weight.*experts\.1\.gate_proj.*\(8 like it\)", message
    )
    assert "model.image_newline" in message and "1 surplus: model.layers.9.extra" in message
    assert "model.norm.weight ([65] instead of [64])" in message


def test_one_tensor_of_ours_out_of_two_formats_is_refused(tmp_path: Path) -> None:
    values = tensors(size())
    values["model.layers.1.self_attn.k_proj.weight"] = values[
        "model.layers.1.self_attn.k_proj.weight"
    ].float()
    with pytest.raises(UserError, match=r"q_proj\.weight is stored as BF16 and .*k_proj\.weight as F32"):
        imported(released_folder(tmp_path / "released", size(), values), tmp_path / "run")


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    values = tensors(size())
    values["lm_head.weight"] = values["lm_head.weight"].to(torch.float8_e4m3fn)
    with pytest.raises(UserError, match=r"lm_head\.weight is stored as F8_E4M3"):
        imported(released_folder(tmp_path / "released", size(), values), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoder": {"tied_embeddings": True}}, "tied_embeddings=true"),
        ({"decoder": {"shared_experts": 0}}, "shared_experts=0"),
        ({"decoder": {"head_width": 10}}, "model.decoder.head_width=10: in the release, heads share out the width"),
        ({"encoder": {"window_head_width": 8}}, "window_head_width=8"),
        ({"decoder": {"ffn_rank": 10}}, "model.decoder.ffn_rank=10: in the release, matrices are whole"),
        ({"encoder": {"kind": "mean_pool"}}, "kind=mean_pool"),
    ],
)
def test_a_model_that_the_release_has_no_words_for_is_refused(
    tmp_path: Path, change: dict, said: str
) -> None:
    from train.model.optical import build

    model = size()
    run = run_folder(tmp_path / "run", model, build(model, 259))
    for part, fields in change.items():
        for field, value in fields.items():
            setattr(getattr(model, part), field, value)
    run_config(run, model)
    with pytest.raises(ConfigError, match=said):
        exported(run, tmp_path / "released")


def run_config(run: Path, model: object) -> None:
    """Other sizes in a run's config.yaml."""
    from omegaconf import OmegaConf

    from data_pipeline.data_config import DataConfig
    from train.config import Config

    config = OmegaConf.structured(Config(model=model, data=DataConfig(tokenizer="bytes")))  # type: ignore[arg-type]
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))


def test_a_checkpoint_of_other_sizes_than_its_config_is_listed(tmp_path: Path) -> None:
    from train.model.optical import build

    model = size()
    run = run_folder(tmp_path / "run", model, build(model, 259))
    model.decoder.expert_ffn, model.decoder.layers = 40, 4
    run_config(run, model)
    with pytest.raises(
        UserError, match=r"(?s)cannot be written as DeepSeek-OCR.*missing.*layers\.3.*of another shape"
    ):
        exported(run, tmp_path / "released")


def settings(source: Path, target: Path, **more: object) -> ConvertConfig:
    return ConvertConfig(
        **{
            "from": str(source),
            "to": str(target),
            "dtype": "as_stored",
            "shard_size": 5.0,
            "model_type": None,
            **more,
        }
    )


def test_what_is_wrong_with_the_settings_is_found_before_anything_is_read(tmp_path: Path) -> None:
    source = released_folder(tmp_path / "released", size(), tensors(size()))
    used = tmp_path / "used"
    used.mkdir()
    check(settings(source, used))  # empty: allowed
    (used / "file").touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (settings(source, used), "exists and is not empty"),
        (settings(source, used / "file"), "exists and is not empty"),
        (settings(tmp_path / "no", empty), "no such folder"),
        (settings(empty, tmp_path / "new"), "no run here .* nor are there released weights"),
        (settings(source, tmp_path / "new", dtype="int4"), "dtype=int4: choose"),
        (settings(source, tmp_path / "new", dtype="bf16"), "reading keeps theirs"),
        (settings(source, tmp_path / "new", shard_size=0.0), "must be above 0"),
        (settings(source, tmp_path / "new", model_type="gpt"), "model_type=gpt: choose"),
    ]
    for config, said in cases:
        with pytest.raises(ConfigError, match=said):
            check(config)


def test_a_header_that_points_outside_its_file_is_refused(tmp_path: Path) -> None:
    source = released_folder(tmp_path / "released", size(), tensors(size()), shards=2)
    header = json.dumps(
        {"lm_head.weight": {"dtype": "F32", "shape": [304, 64], "data_offsets": [0, 77824]}}
    ).encode()
    (source / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 10)
    with pytest.raises(UserError, match=rf"{WEIGHTS} .*truncated"):
        imported(source, tmp_path / "run")
