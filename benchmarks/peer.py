"""transformers' `unlimited_ocr`, an independent implementation of the architecture, as the peer of a model of ours.

The same sizes and the same weights: what is compared is how fast, and in how much memory, the same numbers come out.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from train.config import ModelConfig

# Their names -> ours, the first that fits; then, within a part, what differs in its layers.
PARTS = (
    ("model.vision_tower.sam_encoder.patch_embed.projection", "encoder.window.patch_embed"),
    ("model.vision_tower.sam_encoder.neck.layer_norm", "encoder.window.neck.norm"),
    ("model.vision_tower.sam_encoder.proj", "encoder.compressor"),
    ("model.vision_tower.sam_encoder.layers", "encoder.window.blocks"),
    ("model.vision_tower.sam_encoder", "encoder.window"),
    ("model.vision_tower.vision_encoder.embeddings.position_embedding.weight", "encoder.global.position_embedding"),
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
IN_LAYERS = {
    "encoder.": ((".layer_norm", ".norm"), (".mlp.", "."), ("self_attn.out_proj", "attn.proj"), ("self_attn", "attn")),
    "decoder.": (
        ("post_attention_layernorm", "pre_mlp_layernorm"),
        ("self_attn.o_proj", "self_attention.linear_proj"),
        ("self_attn", "self_attention"),
        ("mlp.gate.weight", "mlp.router.weight"),
        ("mlp.experts.gate_up_proj", "mlp.experts.fc1"),
        ("mlp.experts.down_proj", "mlp.experts.fc2"),
        ("down_proj", "linear_fc2"),
    ),
}


def peer(model: ModelConfig, image_token: int, weights: Mapping[str, torch.Tensor]) -> Any:
    """Their `UnlimitedOcrForConditionalGeneration` of the sizes of `model`, with our weights in their format, on their
    device, in training mode. Attention by sdpa, experts by grouped_mm: their fastest, and their default.

    weights: our `state_dict()`; what theirs lacks (glyph heads) is left out. Raises KeyError for a parameter of theirs
    that ours has none for.
    """
    from transformers.models.unlimited_ocr.modeling_unlimited_ocr import UnlimitedOcrForConditionalGeneration

    like = weights["decoder.embedding.word_embeddings.weight"]
    with torch.device("meta"):
        theirs = UnlimitedOcrForConditionalGeneration(configuration(model, image_token))
    theirs = theirs.to(like.dtype).to_empty(device=like.device)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(_ours(name, model, weights))
    _fill_buffers(theirs)
    return theirs.train()


def configuration(model: ModelConfig, image_token: int) -> Any:
    """Their configuration of a model of ours. Their sliding window covers every row."""
    from transformers.models.unlimited_ocr.configuration_unlimited_ocr import UnlimitedOcrConfig

    e, d = model.encoder, model.decoder
    sam = {
        "hidden_size": e.window_width,
        "output_channels": e.neck_width,
        "num_hidden_layers": e.window_depth,
        "num_attention_heads": e.window_heads,
        "image_size": e.image_size,
        "patch_size": e.patch,
        "window_size": e.window_size,
        "global_attn_indexes": list(e.global_layers),
        "mlp_dim": e.window_mlp,
        "downsample_channels": list(e.compressor_widths),
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
        "sliding_window": d.max_length,
        "max_position_embeddings": d.max_length,
        "rms_norm_eps": d.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": d.rope_theta},
    }
    return UnlimitedOcrConfig(
        vision_config={"sam_config": sam, "encoder_config": clip},
        text_config=text,
        image_token_id=image_token,
        tie_word_embeddings=d.tied_embeddings,
    )


def _ours(name: str, model: ModelConfig, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The value of their parameter `name`. In ours one matrix holds the rows of query, key and value head by head, and
    one those of gate and up."""
    own = _renamed(name)
    if ".qkv." in own:
        return _by_kind(weights[own], model.encoder.window_heads).flatten(0, 2)
    kind = re.search(r"\.([qkv])_proj\.", own)
    if kind:
        fused, heads = ("linear_qkv", model.decoder.heads) if own.startswith("decoder") else ("qkv", model.encoder.global_heads)
        rows = weights[own.replace(f"{kind[1]}_proj", fused)]
        return _by_kind(rows, heads)["qkv".index(kind[1])].flatten(0, 1)
    half = re.search(r"\.(gate|up)_proj\.", own)
    if half:
        return weights[own.replace(f"{half[1]}_proj", "linear_fc1")].chunk(2)[half[1] == "up"]
    return weights[own]


def _renamed(name: str) -> str:
    theirs, ours = next(pair for pair in PARTS if name.startswith(pair[0]))
    name = ours + name.removeprefix(theirs)
    for old, new in IN_LAYERS[name[: len("encoder.")]]:
        name = name.replace(old, new)
    return name


def _by_kind(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """[heads * 3 * H, ...] -> [3, heads, H, ...]."""
    return rows.unflatten(0, (heads, 3, -1)).transpose(0, 1)


def _fill_buffers(theirs: Any) -> None:
    """What is no parameter and was made on the meta device: numbers of positions, frequencies of RoPE (always fp32)."""
    for name, buffer in theirs.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.numel()).view_as(buffer))
    text = theirs.model.language_model
    text.rotary_emb = type(text.rotary_emb)(text.rotary_emb.config).to(theirs.device)
