"""The sizes of the model → config.json as it is released: fields of DeepSeek-OCR's own where it has them, and beside
them those that transformers' `unlimited_ocr` reads.
"""

from typing import Any

from conf.errors import ConfigError
from train.config import DecoderConfig, EncoderConfig, ModelConfig
from train.convert.architecture import CLIP, SAM

PATCH = 14  # pixels a side in CLIP's own patch embedding, which nothing uses


def config_json(
    model: ModelConfig, image_token: int, ends: tuple[int, int], dtype: str, model_type: str
) -> dict[str, Any]:
    """What config.json holds. ends: ids of the begin and the end token. dtype: "bfloat16" or the like.

    model_type: "unlimited_ocr" (transformers, which reads the released names by it alone) or "deepseek_vl_v2" (the
    release's own code and vLLM).
    """
    encoder, decoder = model.encoder, model.decoder
    language = _language(decoder, ends, dtype)
    return {
        **language,
        "architectures": ["DeepseekOCRForCausalLM"],
        "model_type": model_type,
        "torch_dtype": dtype,
        "candidate_resolutions": [[encoder.image_size, encoder.image_size]],
        "global_view_pos": "head",
        "tile_tag": "2D",
        "image_token_id": image_token,
        "sliding_window": decoder.max_length,
        "language_config": language,
        "projector_config": {
            "input_dim": 2 * encoder.compressor_widths[-1],
            "model_type": "mlp_projector",
            "n_embed": decoder.width,
            "projector_type": "linear",
        },
        "text_config": _text(decoder, ends),
        "vision_config": _vision(encoder),
    }


def brought_up(
    kept: dict[str, Any], made: dict[str, Any], dtype: str, model_type: str | None
) -> dict[str, Any]:
    """A config.json that came with the weights, with `dtype` as their format; for readers of `model_type`, where that is
    given, also with the fields of `made` that it lacks.
    """
    named = in_format(kept, dtype)
    if model_type is None:
        return named
    return {**_filled(named, made), "architectures": made["architectures"], "model_type": model_type}


def in_format(value: Any, dtype: str) -> Any:
    """The same config.json, with `dtype` wherever it names a format of the weights."""
    if not isinstance(value, dict):
        return value
    fields = ("torch_dtype", "dtype")
    return {
        field: dtype if field in fields and isinstance(inner, str) else in_format(inner, dtype)
        for field, inner in value.items()
    }


def _filled(kept: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    both = {
        field: _filled(kept[field], inner)
        for field, inner in made.items()
        if isinstance(inner, dict) and isinstance(kept.get(field), dict)
    }
    return {**made, **kept, **both}


def generation_json(ends: tuple[int, int]) -> dict[str, Any]:
    """What generation_config.json holds."""
    return {"_from_model_config": True, "bos_token_id": ends[0], "eos_token_id": ends[1]}


def refuse_what_the_release_cannot_say(model: ModelConfig) -> None:
    """Raises ConfigError for choices of ours that the released architecture has no words for."""
    decoder = model.decoder
    if model.encoder.kind != "optical":
        raise ConfigError(
            f"model.encoder.kind={model.encoder.kind}: a baseline without DeepEncoder; the release has no words for it"
        )
    if decoder.tied_embeddings:
        raise ConfigError(
            "model.decoder.tied_embeddings=true: the release has a matrix of its own for the logits (lm_head); only "
            "models with tied_embeddings=false can be written"
        )
    own = {
        "model.decoder.head_width": decoder.head_width,
        "model.encoder.window_head_width": model.encoder.window_head_width,
        "model.encoder.global_head_width": model.encoder.global_head_width,
    }
    ranks = {"model.decoder.attention_rank": decoder.attention_rank, "model.decoder.ffn_rank": decoder.ffn_rank}
    for option, size in (own | ranks).items():
        if size:
            why = "heads share out the width" if option in own else "matrices are whole"
            raise ConfigError(f"{option}={size}: in the release, {why}; only models with {option}=0 can be written")
    if decoder.dense_layers < decoder.layers and not decoder.shared_experts:
        raise ConfigError(
            "model.decoder.shared_experts=0: the release has shared experts in every layer with experts"
        )


def _language(decoder: DecoderConfig, ends: tuple[int, int], dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["DeepseekV2ForCausalLM"],
        "aux_loss_alpha": decoder.aux_loss,
        "bos_token_id": ends[0],
        "eos_token_id": ends[1],
        "first_k_dense_replace": decoder.dense_layers,
        "hidden_act": "silu",
        "hidden_size": decoder.width,
        "intermediate_size": decoder.ffn,
        "kv_lora_rank": None,
        "lm_head": True,
        "max_position_embeddings": decoder.max_length,
        "moe_intermediate_size": decoder.expert_ffn,
        "moe_layer_freq": 1,
        "n_group": 1,
        "n_routed_experts": decoder.experts,
        "n_shared_experts": decoder.shared_experts,
        "norm_topk_prob": False,
        "num_attention_heads": decoder.heads,
        "num_experts_per_tok": decoder.experts_per_token,
        "num_hidden_layers": decoder.layers,
        "num_key_value_heads": decoder.heads,
        "q_lora_rank": None,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "rm_head": False,
        "rms_norm_eps": decoder.norm_eps,
        "rope_theta": decoder.rope_theta,
        "routed_scaling_factor": 1.0,
        "scoring_func": "softmax",
        "seq_aux": True,
        "tie_word_embeddings": False,
        "topk_group": 1,
        "topk_method": "greedy",
        "torch_dtype": dtype,
        "use_mla": False,
        "v_head_dim": 0,
        "vocab_size": decoder.vocab_size,
    }


def _text(decoder: DecoderConfig, ends: tuple[int, int]) -> dict[str, Any]:
    """transformers' words for the decoder. Its sliding window, which acts only while it generates, covers every row."""
    return {
        "aux_loss_alpha": decoder.aux_loss,  # not theirs: for whoever trains on
        "bos_token_id": ends[0],
        "eos_token_id": ends[1],
        "hidden_size": decoder.width,
        "intermediate_size": decoder.ffn,
        "max_position_embeddings": decoder.max_length,
        "mlp_layer_types": ["dense"] * decoder.dense_layers
        + ["sparse"] * (decoder.layers - decoder.dense_layers),
        "model_type": "unlimited_ocr_text",
        "moe_intermediate_size": decoder.expert_ffn,
        "n_routed_experts": decoder.experts,
        "n_shared_experts": decoder.shared_experts,
        "num_attention_heads": decoder.heads,
        "num_experts_per_tok": decoder.experts_per_token,
        "num_hidden_layers": decoder.layers,
        "num_key_value_heads": decoder.heads,
        "rms_norm_eps": decoder.norm_eps,
        "rope_parameters": {"rope_theta": decoder.rope_theta, "rope_type": "default"},
        "sliding_window": decoder.max_length,
        "topk_method": "greedy",
        "vocab_size": decoder.vocab_size,
    }


def _vision(encoder: EncoderConfig) -> dict[str, Any]:
    side = encoder.image_size // encoder.patch // 4
    return {
        "image_size": encoder.image_size,
        "model_name": "deeplip_b_l",
        "model_type": "vision",
        "width": {
            CLIP: {
                "heads": encoder.global_heads,
                "image_size": side * PATCH,
                "layers": encoder.global_depth,
                "patch_size": PATCH,
                "width": encoder.compressor_widths[-1],
            },
            SAM: {
                "downsample_channels": list(encoder.compressor_widths),
                "global_attn_indexes": list(encoder.global_layers),
                "heads": encoder.window_heads,
                "layers": encoder.window_depth,
                "width": encoder.window_width,
            },
        },
        "sam_config": {
            "downsample_channels": list(encoder.compressor_widths),
            "global_attn_indexes": list(encoder.global_layers),
            "hidden_size": encoder.window_width,
            "image_size": encoder.image_size,
            "mlp_dim": encoder.window_mlp,
            "num_attention_heads": encoder.window_heads,
            "num_hidden_layers": encoder.window_depth,
            "output_channels": encoder.neck_width,
            "patch_size": encoder.patch,
            "window_size": encoder.window_size,
        },
        "encoder_config": {
            "hidden_size": encoder.compressor_widths[-1],
            "image_size": side * PATCH,
            "intermediate_size": encoder.global_mlp,
            "num_attention_heads": encoder.global_heads,
            "num_hidden_layers": encoder.global_depth,
            "patch_size": PATCH,
        },
    }
