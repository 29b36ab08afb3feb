"""Names of layers: those of the release, and those of transformers' `unlimited_ocr`, which loads the same weights into layers of
its own.
"""

import re

# As transformers renames what it loads (its table of conversions), read for layers instead of weights.
RENAMED = (
    (r"^model\.sam_model\.patch_embed\.proj$", "model.vision_tower.sam_encoder.patch_embed.projection"),
    (r"^model\.sam_model\.neck\.0$", "model.vision_tower.sam_encoder.neck.conv1"),
    (r"^model\.sam_model\.neck\.2$", "model.vision_tower.sam_encoder.neck.conv2"),
    (r"^model\.sam_model\.net_2$", "model.vision_tower.sam_encoder.proj.conv1"),
    (r"^model\.sam_model\.net_3$", "model.vision_tower.sam_encoder.proj.conv2"),
    (r"^model\.sam_model\.blocks\.", "model.vision_tower.sam_encoder.layers."),
    (r"^model\.vision_model\.transformer\.", "model.vision_tower.vision_encoder.encoder."),
    (r"^model\.projector\.layers$", "model.multi_modal_projector"),
    (r"^model\.(embed_tokens|layers)", r"model.language_model.\1"),
)
DECODER = "model.language_model."
JOINED = "self_attn.qkv_proj"  # of the global branch, in the release


def in_transformers(name: str) -> list[str]:
    """The layer's name there; three where it keeps apart what the release joins."""
    for pattern, replacement in RENAMED:
        name, changed = re.subn(pattern, replacement, name)
        if changed:
            break
    if name.endswith(JOINED):
        return [name.replace(JOINED, f"self_attn.{kind}_proj") for kind in "qkv"]
    return [name]


def in_file(name: str) -> str:
    """A layer's name in an adapter's file. peft gives what it reads to transformers' table of conversions, which takes the
    decoder's layers for released ones whether they are or not: named as they are, they would be renamed twice (peft 0.21 loses
    adapters of its own so).
    """
    return name.replace(DECODER, "model.")
