"""A released config.json → the sizes of the model. Two styles of it are read: DeepSeek-OCR's own, and the one that
transformers' `unlimited_ocr` writes.

DeepSeek's leaves out what its code has as constants (window size, patch, hidden features of both encoders); these are
the published ones here. Whatever the file says that our architecture cannot do is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from conf.compose import FOLDER
from data_pipeline.errors import UserError
from train.config import DecoderConfig, EncoderConfig, ModelConfig
from train.convert.released import read_json

PUBLISHED = "deepseek_ocr_3b"
SAM, CLIP = "sam_vit_b", "clip-l-14-224"  # names of the two encoders in DeepSeek's config.json
IMAGE_TOKEN = 128815  # id of <image> in DeepSeek's vocabulary; its config.json does not say it
ENDS = (0, 1)  # its begin and its end

# What the decoder does, whatever its size: (field, the values that mean it).
_DECODER = (
    ("hidden_act", ("silu",)),
    ("tie_word_embeddings", (False,)),
    ("attention_bias", (False,)),
    ("mlp_bias", (False,)),
    ("use_mla", (False,)),
    ("kv_lora_rank", (None,)),
    ("q_lora_rank", (None,)),
    ("rope_scaling", (None,)),
    ("moe_layer_freq", (1,)),
    ("topk_method", ("greedy", None)),
    ("scoring_func", ("softmax",)),
    ("norm_topk_prob", (False,)),
    ("routed_scaling_factor", (1.0,)),
    ("n_group", (1, None)),
    ("topk_group", (1, None)),
)
_WINDOW = (
    ("layer_norm_eps", (1e-6,)),
    ("hidden_act", ("gelu",)),
    ("qkv_bias", (True,)),
    ("use_abs_pos", (True,)),
    ("use_rel_pos", (True,)),
)
_GLOBAL = (("layer_norm_eps", (1e-5,)), ("hidden_act", ("quick_gelu",)))


class _Section:
    """A dictionary of a config.json; what it lacks, `above` may have."""

    def __init__(self, path: Path, name: str, values: Any, above: Mapping[str, Any] | None = None) -> None:
        if not isinstance(values, dict):
            raise UserError(f"{path}: {name} is no dictionary")
        self.path, self.name, self.values, self.above = path, name, values, above or {}

    def get(self, field: str, default: Any = None) -> Any:
        return self.values.get(field, self.above.get(field, default))

    def number(self, field: str, default: int | None = None) -> int:
        value = self.get(field, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"{self.path}: {self.name}.{field} must be a whole number, not {value!r}")
        return value

    def numbers(self, field: str) -> list[int]:
        value = self.get(field)
        if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
            raise UserError(
                f"{self.path}: {self.name}.{field} must be a list of whole numbers, not {value!r}"
            )
        return value

    def real(self, field: str, default: float) -> float:
        value = self.get(field, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"{self.path}: {self.name}.{field} must be a number, not {value!r}")
        return float(value)

    def require(self, rules: tuple[tuple[str, tuple[Any, ...]], ...]) -> None:
        for field, allowed in rules:
            value = self.get(field, allowed[0])
            if value not in allowed:
                raise UserError(
                    f"{self.path}: {self.name}.{field} is {value!r}; DeepSeek-OCR has {allowed[0]!r}, and this model can "
                    "do nothing else"
                )


def published() -> ModelConfig:
    """The sizes of the released model: conf/model/deepseek_ocr_3b.yaml."""
    file = OmegaConf.load(FOLDER / "model" / f"{PUBLISHED}.yaml")
    model = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), file))
    assert isinstance(model, ModelConfig)
    return model


def model_of(path: Path) -> ModelConfig:
    """The sizes that a config.json describes. Raises UserError for a file of another kind of model."""
    values = read_json(path)
    text = values.get("text_config") or values.get("language_config")
    vision = values.get("vision_config")
    if not isinstance(text, dict) or not isinstance(vision, dict):
        kind = values.get("model_type", "unknown")
        raise UserError(
            f"{path}: no DeepSeek-OCR (model_type {kind}): it has no language_config and vision_config"
        )
    decoder = _decoder(_Section(path, "language_config", text, values))
    if "sam_config" in vision:
        window = _Section(path, "vision_config.sam_config", vision["sam_config"])
        whole = _Section(path, "vision_config.encoder_config", vision.get("encoder_config"))
        encoder = _encoder(window, whole)
    else:
        encoder = _published_encoder(path, vision)
    model = ModelConfig("imported", encoder, decoder, glyph_heads=False)
    known = published()
    return known if (encoder, decoder) == (known.encoder, known.decoder) else model


def image_token_of(path: Path) -> int:
    """The id of `<image>` that the weights expect."""
    return _Section(path, "config.json", read_json(path)).number("image_token_id", IMAGE_TOKEN)


def _decoder(text: _Section) -> DecoderConfig:
    text.require(_DECODER)
    heads, layers = text.number("num_attention_heads"), text.number("num_hidden_layers")
    if text.get("num_key_value_heads", heads) != heads:
        raise UserError(
            f"{text.path}: {text.name}.num_key_value_heads differs from num_attention_heads ({heads})"
        )
    rope = text.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise UserError(
            f"{text.path}: {text.name}.rope_parameters.rope_type is {rope['rope_type']!r}, not 'default'"
        )
    return DecoderConfig(
        layers=layers,
        width=text.number("hidden_size"),
        heads=heads,
        ffn=text.number("intermediate_size"),
        dense_layers=_dense_layers(text, layers),
        experts=text.number("n_routed_experts"),
        experts_per_token=text.number("num_experts_per_tok"),
        expert_ffn=text.number("moe_intermediate_size"),
        shared_experts=text.number("n_shared_experts"),
        vocab_size=text.number("vocab_size"),
        max_length=text.number("max_position_embeddings", 8192),
        rope_theta=float(rope.get("rope_theta", text.real("rope_theta", 10000.0))),
        norm_eps=text.real("rms_norm_eps", 1e-6),
        aux_loss=text.real("aux_loss_alpha", 0.001),
    )


def _dense_layers(text: _Section, layers: int) -> int:
    kinds = text.get("mlp_layer_types")
    if kinds is None:
        return text.number("first_k_dense_replace", 1)
    dense = kinds.count("dense")
    if kinds != ["dense"] * dense + ["sparse"] * (layers - dense):
        raise UserError(
            f"{text.path}: {text.name}.mlp_layer_types must be dense layers, then sparse ones, not {kinds}"
        )
    return dense


def _encoder(window: _Section, whole: _Section) -> EncoderConfig:
    window.require(_WINDOW)
    whole.require(_GLOBAL)
    size, patch = window.number("image_size", 1024), window.number("patch_size", 16)
    widths = window.numbers("downsample_channels")
    side = whole.number("image_size") // whole.number("patch_size")
    if whole.number("hidden_size") != widths[-1] or side != size // patch // 4:
        raise UserError(
            f"{window.path}: the global branch is {whole.number('hidden_size')} wide for {side} x {side} tokens; what "
            f"the windowed branch hands over is {widths[-1]} wide, {size // patch // 4} x {size // patch // 4}"
        )
    return EncoderConfig(
        image_size=size,
        patch=patch,
        window_width=window.number("hidden_size"),
        window_depth=window.number("num_hidden_layers"),
        window_heads=window.number("num_attention_heads"),
        window_size=window.number("window_size"),
        global_layers=window.numbers("global_attn_indexes"),
        window_mlp=window.number("mlp_dim"),
        neck_width=window.number("output_channels"),
        compressor_widths=widths,
        global_depth=whole.number("num_hidden_layers"),
        global_heads=whole.number("num_attention_heads"),
        global_mlp=whole.number("intermediate_size"),
    )


def _published_encoder(path: Path, vision: dict[str, Any]) -> EncoderConfig:
    """DeepSeek's style names what it varies; the rest are constants of its code."""
    widths = vision.get("width")
    if not isinstance(widths, dict) or SAM not in widths or CLIP not in widths:
        raise UserError(
            f"{path}: no DeepSeek-OCR: vision_config.width names no {SAM} and {CLIP} (DeepSeek-OCR-2 has another encoder)"
        )
    known = published().encoder
    sam = _Section(path, f"vision_config.width.{SAM}", widths[SAM])
    clip = _Section(path, f"vision_config.width.{CLIP}", widths[CLIP])
    window = {
        "image_size": vision.get("image_size", known.image_size),
        "patch_size": known.patch,
        "hidden_size": sam.number("width"),
        "num_hidden_layers": sam.number("layers"),
        "num_attention_heads": sam.number("heads"),
        "window_size": known.window_size,
        "global_attn_indexes": sam.numbers("global_attn_indexes"),
        "mlp_dim": 4 * sam.number("width"),
        "output_channels": known.neck_width,
        "downsample_channels": sam.numbers("downsample_channels"),
    }
    whole = {
        "image_size": clip.number("image_size"),
        "patch_size": clip.number("patch_size"),
        "hidden_size": clip.number("width"),
        "num_hidden_layers": clip.number("layers"),
        "num_attention_heads": clip.number("heads"),
        "intermediate_size": 4 * clip.number("width"),
    }
    return _encoder(_Section(path, sam.name, window), _Section(path, clip.name, whole))
