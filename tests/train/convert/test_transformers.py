"""What we write, read by transformers: the same model, with nothing missing and nothing left over."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip(
    "transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`"
)
from transformers import AutoConfig, PreTrainedTokenizerFast
from transformers.models.unlimited_ocr.modeling_unlimited_ocr import UnlimitedOcrForConditionalGeneration

from data_pipeline.tokenizer import byte_tokenizer
from tests.train.convert.folders import (
    IMAGE,
    exported,
    imported,
    read,
    released_folder,
    run_folder,
    size,
    tensors,
)
from tests.train.model.peer_model import our_logits, page_batch, their_logits, tolerance
from tests.train.model.small_model import without_zeros
from train.config import ModelConfig
from train.convert.architecture import model_of, published
from train.convert.describe import config_json
from train.convert.names import PATCH_EMBEDDING
from train.model.optical import build

pytestmark = pytest.mark.usefixtures("one_process")


def unusual() -> ModelConfig:
    """Nothing as transformers assumes it when config.json says nothing."""
    model = size()
    model.decoder = replace(model.decoder, rope_theta=2000.0, norm_eps=1e-4, dense_layers=2)
    model.glyph_heads = True
    return model


def loaded(folder: Path):
    """Their model from a folder; AssertionError for a tensor that is missing, left over or of another shape."""
    theirs, report = UnlimitedOcrForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return theirs.eval()


def test_our_model_gives_the_same_logits_there(tmp_path: Path) -> None:
    model = unusual()
    ours = without_zeros(build(model, IMAGE, seed=3)).eval()
    notes = exported(run_folder(tmp_path / "run", model, ours), tmp_path / "released", shard_size=3e-4)
    assert any("glyph_heads.patch.weight" in note for note in notes)
    assert any(PATCH_EMBEDDING in note and "zeros" in note for note in notes)
    theirs, batch = (
        loaded(tmp_path / "released"),
        page_batch(model, ["128", "96+64"], [(90, 200), (300, 200)], seed=1),
    )
    with torch.no_grad():
        expected = their_logits(theirs, batch)
        torch.testing.assert_close(our_logits(ours, batch), expected, rtol=0, atol=tolerance(expected))
    patch = read(tmp_path / "released")[PATCH_EMBEDDING]
    assert patch.shape == (48, 3, 14, 14) and not patch.any()


def test_what_we_write_comes_back_as_the_same_run(tmp_path: Path) -> None:
    model = unusual()
    exported(run_folder(tmp_path / "run", model, build(model, IMAGE, seed=3)), tmp_path / "released")
    found = model_of(tmp_path / "released" / "config.json")
    assert (found.encoder, found.decoder) == (model.encoder, model.decoder)
    imported(tmp_path / "released", tmp_path / "again")


def test_auto_classes_find_configuration_generation_settings_and_tokenizer(tmp_path: Path) -> None:
    model = size()
    exported(run_folder(tmp_path / "run", model, build(model, IMAGE)), tmp_path / "released")
    assert type(AutoConfig.from_pretrained(tmp_path / "released")).__name__ == "UnlimitedOcrConfig"
    bytes_, theirs = byte_tokenizer(), loaded(tmp_path / "released")
    assert (
        theirs.generation_config.eos_token_id == bytes_.eos
        and theirs.generation_config.bos_token_id == bytes_.bos
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "released" / "tokenizer.json"))
    text = "Naïve  漢字\n<td>a</td> 0123 \t👩‍🔬"
    assert tokenizer.encode(text, add_special_tokens=False) == bytes_.encode(text)
    assert tokenizer.convert_tokens_to_ids("<image>") == bytes_.image


def test_released_weights_can_be_handed_on_to_transformers(tmp_path: Path) -> None:
    """DeepSeek's config.json says deepseek_vl_v2, by which transformers does not know the released names: asked for, it
    gets the word that it knows, and what it cannot find in DeepSeek's words.
    """
    values = {name: torch.nan_to_num(value, neginf=0.0) for name, value in tensors(size()).items()}
    source = released_folder(tmp_path / "released", size(), values)
    imported(source, tmp_path / "run")
    exported(tmp_path / "run", tmp_path / "for_them", model_type="unlimited_ocr")
    theirs = loaded(tmp_path / "for_them")
    assert theirs.config.text_config.sliding_window == size().decoder.max_length
    assert torch.equal(theirs.lm_head.weight.float(), values["lm_head.weight"].float())
    kept = json.loads((source / "config.json").read_text())
    written = json.loads((tmp_path / "for_them" / "config.json").read_text())
    assert all(written[field] == value for field, value in kept.items() if not isinstance(value, dict) and field not in
               ("model_type", "architectures"))  # fmt: skip


PUBLISHED = {  # fields of the released config.json
    "architectures": ["DeepseekOCRForCausalLM"],
    "bos_token_id": 0,
    "candidate_resolutions": [[1024, 1024]],
    "eos_token_id": 1,
    "first_k_dense_replace": 1,
    "global_view_pos": "head",
    "hidden_size": 1280,
    "intermediate_size": 6848,
    "kv_lora_rank": None,
    "lm_head": True,
    "max_position_embeddings": 8192,
    "moe_intermediate_size": 896,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_attention_heads": 10,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 12,
    "num_key_value_heads": 10,
    "projector_config": {
        "input_dim": 2048,
        "model_type": "mlp_projector",
        "n_embed": 1280,
        "projector_type": "linear",
    },
    "q_lora_rank": None,
    "qk_nope_head_dim": 0,
    "qk_rope_head_dim": 0,
    "rm_head": False,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tile_tag": "2D",
    "topk_method": "greedy",
    "torch_dtype": "bfloat16",
    "use_mla": False,
    "v_head_dim": 0,
    "vocab_size": 129280,
}
PUBLISHED_VISION = {
    "image_size": 1024,
    "model_name": "deeplip_b_l",
    "model_type": "vision",
    "width": {
        "clip-l-14-224": {"heads": 16, "image_size": 224, "layers": 24, "patch_size": 14, "width": 1024},
        "sam_vit_b": {
            "downsample_channels": [512, 1024],
            "global_attn_indexes": [2, 5, 8, 11],
            "heads": 12,
            "layers": 12,
            "width": 768,
        },
    },
}


def test_the_published_configuration_is_read_and_written_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps({**PUBLISHED, "language_config": PUBLISHED, "vision_config": PUBLISHED_VISION})
    )
    assert model_of(path) == published()
    made = config_json(published(), 128815, (0, 1), "bfloat16", "unlimited_ocr")
    assert {field: made[field] for field in PUBLISHED} == PUBLISHED
    assert {field: made["vision_config"][field] for field in PUBLISHED_VISION} == PUBLISHED_VISION
    inner = {field: value for field, value in PUBLISHED.items() if field in made["language_config"]}
    assert {field: made["language_config"][field] for field in inner} == {
        **inner,
        "architectures": ["DeepseekV2ForCausalLM"],
    }
    path.write_text(json.dumps(made))
    assert model_of(path) == published()
    sizes = AutoConfig.from_pretrained(tmp_path).vision_config
    assert (sizes.sam_config.mlp_dim, sizes.encoder_config.intermediate_size) == (3072, 4096)
