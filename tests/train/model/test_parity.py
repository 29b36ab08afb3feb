"""The model against transformers' `unlimited_ocr`, an independent implementation of DeepSeek-OCR's
architecture.
"""

import copy

import pytest
import torch

from train.model.optical import OpticalModel, build

pytest.importorskip(
    "transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`"
)
from transformers.models.unlimited_ocr.configuration_unlimited_ocr import (
    UnlimitedOcrConfig,
)
from transformers.models.unlimited_ocr.modeling_unlimited_ocr import (
    UnlimitedOcrForConditionalGeneration,
)

pytestmark = pytest.mark.usefixtures("one_process")

RENAMED = (  # theirs -> ours, in order
    ("model.vision_tower.sam_encoder.patch_embed.projection", "encoder.window.patch_embed"),
    ("model.vision_tower.sam_encoder.neck.layer_norm", "encoder.window.neck.norm"),
    ("model.vision_tower.sam_encoder.proj", "encoder.compressor"),
    ("model.vision_tower.sam_encoder.layers", "encoder.window.blocks"),
    ("model.vision_tower.sam_encoder", "encoder.window"),
    (
        "model.vision_tower.vision_encoder.embeddings.position_embedding.weight",
        "encoder.global.position_embedding",
    ),
    ("model.vision_tower.vision_encoder.embeddings", "encoder.global"),
    ("model.vision_tower.vision_encoder.encoder.layers", "encoder.global.layers"),
    ("model.vision_tower.vision_encoder.pre_layrnorm", "encoder.global.pre_norm"),
    ("model.multi_modal_projector", "encoder.projector"),
    ("model.image_newline", "encoder.newline"),
    ("model.view_separator", "encoder.separator"),
    ("model.language_model.embed_tokens", "decoder.embedding.word_embeddings"),
    ("model.language_model.norm", "decoder.decoder.final_layernorm"),
    ("model.language_model", "decoder.decoder"),
    ("lm_head", "decoder.output_layer"),
)
RENAMED_IN_LAYERS = {
    "encoder.window": ((".layer_norm", ".norm"), (".mlp.", ".")),
    "encoder.global": (
        (".layer_norm", ".norm"),
        (".mlp.", "."),
        ("self_attn.out_proj", "attn.proj"),
        ("self_attn", "attn"),
    ),
    "decoder.decoder": (
        ("post_attention_layernorm", "pre_mlp_layernorm"),
        ("self_attn.o_proj", "self_attention.linear_proj"),
        ("self_attn", "self_attention"),
        ("mlp.gate.weight", "mlp.router.weight"),
        ("mlp.experts.gate_up_proj", "mlp.experts.fc1"),
        ("mlp.experts.down_proj", "mlp.experts.fc2"),
        ("down_proj", "linear_fc2"),
    ),
}


def ours_from(theirs: dict[str, torch.Tensor], heads: dict[str, int]) -> dict[str, torch.Tensor]:
    """Their weights (or gradients) under our names and in our row order."""
    named = {}
    for name, tensor in theirs.items():
        for old, new in RENAMED:
            if name.startswith(old):
                name = new + name[len(old) :]
                break
        for part, rules in RENAMED_IN_LAYERS.items():
            if name.startswith(part):
                for old, new in rules:
                    name = name.replace(old, new)
        named[name] = tensor
    fused: dict[str, torch.Tensor] = {}
    for name, tensor in named.items():
        count = next((n for part, n in heads.items() if name.startswith(part)), 0)
        if ".qkv." in name:
            fused[name] = by_head(tensor.chunk(3), count)
        elif ".q_proj." in name:
            parts = [named[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            fused[name.replace("q_proj", "linear_qkv" if name.startswith("decoder") else "qkv")] = by_head(
                parts, count
            )
        elif ".gate_proj." in name:
            fused[name.replace("gate_proj", "linear_fc1")] = torch.cat(
                [tensor, named[name.replace("gate", "up")]]
            )
        elif not any(part in name for part in (".k_proj.", ".v_proj.", ".up_proj.")):
            fused[name] = tensor
    return fused


def by_head(parts: list[torch.Tensor], heads: int) -> torch.Tensor:
    """Query, key and value rows -> rows ordered head by head."""
    return torch.stack([part.unflatten(0, (heads, -1)) for part in parts], dim=1).flatten(0, 2)


@pytest.fixture
def theirs(small, image_token) -> UnlimitedOcrForConditionalGeneration:
    """Their model in our small configuration, all parameters random (also those they start at zero)."""
    e, d = small.encoder, small.decoder
    sam = {
        "hidden_size": e.window_width,
        "output_channels": e.neck_width,
        "num_hidden_layers": e.window_depth,
        "num_attention_heads": e.window_heads,
        "image_size": e.image_size,
        "patch_size": e.patch,
        "window_size": e.window_size,
        "global_attn_indexes": e.global_layers,
        "mlp_dim": e.window_mlp,
        "downsample_channels": e.compressor_widths,
    }
    clip = {
        "hidden_size": e.compressor_widths[-1],
        "intermediate_size": e.global_mlp,
        "num_hidden_layers": e.global_depth,
        "num_attention_heads": e.global_heads,
        "image_size": e.image_size // 4,
        "patch_size": e.patch,
    }
    text = {
        "vocab_size": d.vocab_size,
        "hidden_size": d.width,
        "intermediate_size": d.ffn,
        "num_hidden_layers": d.layers,
        "num_attention_heads": d.heads,
        "num_key_value_heads": d.heads,
        "moe_intermediate_size": d.expert_ffn,
        "n_routed_experts": d.experts,
        "n_shared_experts": d.shared_experts,
        "num_experts_per_tok": d.experts_per_token,
        "first_k_dense_replace": d.dense_layers,
        "topk_method": "greedy",
        "routed_scaling_factor": 1.0,
        "sliding_window": 4096,
        "max_position_embeddings": d.max_length,
    }
    model = UnlimitedOcrForConditionalGeneration(
        UnlimitedOcrConfig(
            vision_config={"sam_config": sam, "encoder_config": clip},
            text_config=text,
            image_token_id=image_token,
        )
    )
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Experts are stacked [E, outputs, inputs]: drawn any smaller, they would hide in the rounding.
            inputs = parameter.shape[-1] if parameter.dim() == 3 else parameter[0].numel()
            spread = 0.3 if parameter.dim() == 1 else inputs**-0.5
            parameter.normal_(0.0, 0.5 if "rel_pos" in name else spread)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
    return model


@pytest.fixture
def ours(small, theirs, image_token) -> OpticalModel:
    """Our model with their weights. Every parameter of either has its counterpart: names and shapes match
    one to one.
    """
    small.decoder.aux_loss = 0.0  # theirs has none
    small.glyph_heads = False
    model = build(small, image_token)
    weights = ours_from(theirs.state_dict(), head_counts(small))
    assert set(weights) == {name for name, _ in model.named_parameters()}
    model.load_state_dict(weights, strict=False)
    return model


def head_counts(small) -> dict[str, int]:
    return {
        "encoder.window": small.encoder.window_heads,
        "encoder.global": small.encoder.global_heads,
        "decoder": small.decoder.heads,
    }


def pixels(views: torch.Tensor) -> torch.Tensor:
    return (views.float() / 255 - 0.5) / 0.5


@pytest.mark.parametrize("size", [128, 192, 64])
def test_encoder_agrees_at_native_and_interpolated_sizes(ours, theirs, size: int) -> None:
    views = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        laid_out = ours.encode(views).rows
        expected = theirs.model.get_image_features(pixels(views), return_dict=True).pooler_output
    expected = torch.stack(list(expected))
    difference = (laid_out - expected).abs().max()
    assert difference <= 1e-5 * expected.abs().max().clamp(min=1.0), difference


def test_logits_loss_and_gradients_agree(ours, theirs, pages, small) -> None:
    pages.padding[:] = False
    logits = ours(pages).logits
    expected = theirs(input_ids=pages.tokens, pixel_values=pixels(pages.views)).logits
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1.0)

    losses = [
        torch.nn.functional.cross_entropy(x[:, :-1].flatten(0, 1), pages.tokens[:, 1:].flatten())
        for x in (logits, expected)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=1e-6)
    for loss in losses:
        loss.backward()
    wanted = ours_from({name: p.grad for name, p in theirs.named_parameters()}, head_counts(small))
    for name, parameter in ours.named_parameters():
        difference = (parameter.grad - wanted[name]).abs().max()
        assert difference <= 1e-4 * wanted[name].abs().max() + 1e-8, f"{name}: {difference}"


def test_text_without_a_page_agrees(ours, theirs, pages) -> None:
    pages = copy.copy(pages)
    pages.tokens = pages.tokens.clamp(max=99)
    pages.padding = torch.zeros_like(pages.padding)
    pages.views, pages.view_of = torch.zeros_like(pages.views[:1]), torch.tensor([-1])
    with torch.no_grad():
        expected = theirs(input_ids=pages.tokens).logits
        assert (ours(pages).logits - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1.0)


@pytest.mark.parametrize(
    "part",
    [
        "encoder.window.blocks.1.attn.rel_pos_h",
        "encoder.global.layers.1.fc1.weight",
        "encoder.separator",
        "decoder.decoder.layers.1.mlp.experts.fc1",
        "decoder.decoder.layers.1.mlp.experts.fc2",
        "decoder.decoder.layers.1.mlp.router.weight",
        "decoder.decoder.layers.1.mlp.shared_experts.linear_fc2.weight",
    ],
)
def test_the_comparison_would_notice_one_percent_in(part: str, ours, theirs, pages) -> None:
    """Agreement proves a part right only if that part moves the logits far beyond the tolerance."""
    pages.padding[:] = False
    with torch.no_grad():
        expected = theirs(input_ids=pages.tokens, pixel_values=pixels(pages.views)).logits
        dict(ours.named_parameters())[part].mul_(1.01)
        moved = (ours(pages).logits - expected).abs().max()
    assert moved > 30 * 1e-5 * expected.abs().max().clamp(min=1.0), moved
