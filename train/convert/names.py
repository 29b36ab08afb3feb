"""Released tensor names ↔ keys of our checkpoints, with shapes, for any size of the architecture.

Most tensors are the same on both sides. Ours stacks a feed-forward's gate and up, and all experts of a layer; and its
rows of query, key and value are ordered head by head, [N, (query, key, value), H], where the release keeps three
tensors, or one ordered [(query, key, value), N, H]. No value changes, so a round trip is exact.

Shapes: N heads, H head width, E experts, F hidden features. Source of the names: the release's index.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from train.config import DecoderConfig, EncoderConfig, ModelConfig

Shape = tuple[int, ...]

PATCH_EMBEDDING = "model.vision_model.embeddings.patch_embedding.weight"  # [C, 3, k, k], never used
PATCH_EMBEDDING_KEY = f"released.{PATCH_EMBEDDING}"  # under which a checkpoint carries it: not of our model
POSITION_IDS = "model.vision_model.embeddings.position_ids"  # in re-saved copies: 0, 1, 2, …


@dataclass(frozen=True)
class Part:
    """A box of one of our tensors, and the released tensors whose values it holds.

    names: one, or query, key and value. shape: of each. offset: where the box begins. size: of the box. heads: N where
    its rows are ordered head by head, else 0.
    """

    names: tuple[str, ...]
    shape: Shape
    offset: Shape
    size: Shape
    heads: int = 0


@dataclass(frozen=True)
class Entry:
    """One tensor of our model: its key in a checkpoint (without "model."), its shape, and the parts that make it up."""

    key: str
    shape: Shape
    parts: tuple[Part, ...]


def ours(part: Part, theirs: Sequence[torch.Tensor]) -> torch.Tensor:
    """The box of our tensor, from the released tensors `part.names`; a view of them where no row changes its place."""
    if not part.heads:
        return theirs[0].reshape(part.size)
    kinds = theirs if len(theirs) == 3 else theirs[0].chunk(3)
    by_head = [kind.unflatten(0, (part.heads, -1)) for kind in kinds]
    return torch.stack(by_head, 1).reshape(part.size)


def theirs(part: Part, box: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The released tensors `part.names`, from the box of our tensor: the inverse of `ours`."""
    if not part.heads:
        return (box.reshape(part.shape),)
    kinds = box.unflatten(0, (part.heads, 3, -1)).transpose(0, 1)
    return tuple(tensor.reshape(part.shape) for tensor in (kinds if len(part.names) == 3 else kinds[None]))


def box_of(part: Part, whole: torch.Tensor) -> torch.Tensor:
    """The part of our tensor `whole` that `part` is about, a view."""
    return whole[tuple(slice(start, start + length) for start, length in zip(part.offset, part.size))]


def to_ours(model: ModelConfig, released: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All tensors of our model by key, from the released ones by name. Raises KeyError for one that is not there."""
    found = {}
    for entry in entries(model):
        boxes = [ours(part, [released[name] for name in part.names]) for part in entry.parts]
        whole = boxes[0].new_empty(entry.shape)
        for part, box in zip(entry.parts, boxes):
            box_of(part, whole).copy_(box)
        found[entry.key] = whole
    return found


def released_shapes(model: ModelConfig) -> dict[str, Shape]:
    """Every released tensor but the patch embedding, which a copy may lack; in the order of `entries`."""
    return {name: part.shape for entry in entries(model) for part in entry.parts for name in part.names}


def entries(model: ModelConfig) -> list[Entry]:
    """Every tensor of our model (without glyph heads), in its order from page to logits."""
    encoder, decoder = model.encoder, model.decoder
    return [*_window(encoder), *_global(encoder), *_joint(encoder, decoder), *_decoder(decoder)]


def _window(encoder: EncoderConfig) -> Iterator[Entry]:
    width, grid, neck = encoder.window_width, encoder.image_size // encoder.patch, encoder.neck_width
    sam, own = "model.sam_model.", "encoder.window."
    yield _same(own + "pos_embed", sam + "pos_embed", (1, grid, grid, width))
    yield _same(
        own + "patch_embed.weight", sam + "patch_embed.proj.weight", (width, 3, encoder.patch, encoder.patch)
    )
    yield _same(own + "patch_embed.bias", sam + "patch_embed.proj.bias", (width,))
    for layer in range(encoder.window_depth):
        yield from _window_block(encoder, layer, f"{own}blocks.{layer}.", f"{sam}blocks.{layer}.")
    yield _same(own + "neck.conv1.weight", sam + "neck.0.weight", (neck, width, 1, 1))
    yield from _affine(own + "neck.norm1", sam + "neck.1", (neck,))
    yield _same(own + "neck.conv2.weight", sam + "neck.2.weight", (neck, neck, 3, 3))
    yield from _affine(own + "neck.norm2", sam + "neck.3", (neck,))
    first, second = encoder.compressor_widths
    yield _same("encoder.compressor.conv1.weight", sam + "net_2.weight", (first, neck, 3, 3))
    yield _same("encoder.compressor.conv2.weight", sam + "net_3.weight", (second, first, 3, 3))


def _window_block(encoder: EncoderConfig, layer: int, own: str, sam: str) -> Iterator[Entry]:
    width, heads, hidden = encoder.window_width, encoder.window_heads, encoder.window_mlp
    side = encoder.image_size // encoder.patch if layer in encoder.global_layers else encoder.window_size
    yield from _affine(own + "norm1", sam + "norm1", (width,))
    yield from _one_qkv(own + "attn.qkv", sam + "attn.qkv", width, heads)
    yield from _affine(own + "attn.proj", sam + "attn.proj", (width, width))
    for axis in "hw":
        yield _same(f"{own}attn.rel_pos_{axis}", f"{sam}attn.rel_pos_{axis}", (2 * side - 1, width // heads))
    yield from _affine(own + "norm2", sam + "norm2", (width,))
    yield from _affine(own + "lin1", sam + "mlp.lin1", (hidden, width))
    yield from _affine(own + "lin2", sam + "mlp.lin2", (width, hidden))


def _global(encoder: EncoderConfig) -> Iterator[Entry]:
    width, side = encoder.compressor_widths[-1], encoder.image_size // encoder.patch // 4
    clip, own = "model.vision_model.", "encoder.global."
    yield _same(own + "class_embedding", clip + "embeddings.class_embedding", (width,))
    yield _same(
        own + "position_embedding", clip + "embeddings.position_embedding.weight", (1 + side * side, width)
    )
    yield from _affine(own + "pre_norm", clip + "pre_layrnorm", (width,))  # sic
    for layer in range(encoder.global_depth):
        mine, their = f"{own}layers.{layer}.", f"{clip}transformer.layers.{layer}."
        yield from _affine(mine + "norm1", their + "layer_norm1", (width,))
        yield from _one_qkv(mine + "attn.qkv", their + "self_attn.qkv_proj", width, encoder.global_heads)
        yield from _affine(mine + "attn.proj", their + "self_attn.out_proj", (width, width))
        yield from _affine(mine + "norm2", their + "layer_norm2", (width,))
        yield from _affine(mine + "fc1", their + "mlp.fc1", (encoder.global_mlp, width))
        yield from _affine(mine + "fc2", their + "mlp.fc2", (width, encoder.global_mlp))


def _joint(encoder: EncoderConfig, decoder: DecoderConfig) -> Iterator[Entry]:
    width = decoder.width
    yield from _affine(
        "encoder.projector", "model.projector.layers", (width, 2 * encoder.compressor_widths[-1])
    )
    yield _same("encoder.newline", "model.image_newline", (width,))
    yield _same("encoder.separator", "model.view_seperator", (width,))  # sic
    yield _same(
        "decoder.embedding.word_embeddings.weight", "model.embed_tokens.weight", (decoder.vocab_size, width)
    )


def _decoder(decoder: DecoderConfig) -> Iterator[Entry]:
    width = decoder.width
    for layer in range(decoder.layers):
        own, their = f"decoder.decoder.layers.{layer}.", f"model.layers.{layer}."
        norm = own + "self_attention.linear_qkv.layer_norm_weight"
        yield _same(norm, their + "input_layernorm.weight", (width,))
        names = tuple(f"{their}self_attn.{kind}_proj.weight" for kind in "qkv")
        yield _qkv(own + "self_attention.linear_qkv.weight", names, (3 * width, width), decoder.heads)
        attended = own + "self_attention.linear_proj.weight"
        yield _same(attended, their + "self_attn.o_proj.weight", (width, width))
        norm = own + "mlp.linear_fc1.layer_norm_weight"
        yield _same(norm, their + "post_attention_layernorm.weight", (width,))
        if layer < decoder.dense_layers:
            yield from _feed_forward(own + "mlp.", their + "mlp.", decoder.ffn, width)
        else:
            yield from _mixture(decoder, own + "mlp.", their + "mlp.")
    yield _same("decoder.decoder.final_layernorm.weight", "model.norm.weight", (width,))
    yield _same("decoder.output_layer.weight", "lm_head.weight", (decoder.vocab_size, width))


def _mixture(decoder: DecoderConfig, own: str, their: str) -> Iterator[Entry]:
    width, hidden, count = decoder.width, decoder.expert_ffn, decoder.experts
    yield _same(own + "router.weight", their + "gate.weight", (count, width))
    up = [_expert(f"{their}experts.{expert}.{kind}_proj.weight", expert, row, hidden, width)
          for expert in range(count) for row, kind in ((0, "gate"), (hidden, "up"))]  # fmt: skip
    yield Entry(own + "experts.experts.linear_fc1.weight", (count, 2 * hidden, width), tuple(up))
    down = [
        _expert(f"{their}experts.{expert}.down_proj.weight", expert, 0, width, hidden)
        for expert in range(count)
    ]
    yield Entry(own + "experts.experts.linear_fc2.weight", (count, width, hidden), tuple(down))
    if decoder.shared_experts:
        yield from _feed_forward(
            own + "shared_experts.", their + "shared_experts.", decoder.shared_experts * hidden, width
        )


def _expert(name: str, expert: int, row: int, rows: int, columns: int) -> Part:
    return Part((name,), (rows, columns), (expert, row, 0), (1, rows, columns))


def _feed_forward(own: str, their: str, hidden: int, width: int) -> Iterator[Entry]:
    halves = [Part((f"{their}{kind}_proj.weight",), (hidden, width), (row, 0), (hidden, width))
              for row, kind in ((0, "gate"), (hidden, "up"))]  # fmt: skip
    yield Entry(own + "linear_fc1.weight", (2 * hidden, width), tuple(halves))
    yield _same(own + "linear_fc2.weight", their + "down_proj.weight", (width, hidden))


def _same(key: str, name: str, shape: Shape) -> Entry:
    return Entry(key, shape, (Part((name,), shape, (0,) * len(shape), shape),))


def _affine(key: str, name: str, shape: Shape) -> Iterator[Entry]:
    """Weight of `shape` and bias of its outputs."""
    yield _same(key + ".weight", name + ".weight", shape)
    yield _same(key + ".bias", name + ".bias", shape[:1])


def _one_qkv(key: str, name: str, width: int, heads: int) -> Iterator[Entry]:
    yield _qkv(key + ".weight", (name + ".weight",), (3 * width, width), heads)
    yield _qkv(key + ".bias", (name + ".bias",), (3 * width,), heads)


def _qkv(key: str, names: tuple[str, ...], shape: Shape, heads: int) -> Entry:
    each = (shape[0] // len(names), *shape[1:])
    return Entry(key, shape, (Part(names, each, (0,) * len(shape), shape, heads),))
