"""What the model's units are made of: which rows and columns of which tensors belong to a head, a hidden feature, an expert, or a
feature of the decoder's width.

Keys are those of a checkpoint, without "model.". A gated feed-forward stacks gate and up; query, key and value are ordered head by
head, [N, (query, key, value), H] (train/convert/names.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from train.config import DecoderConfig, EncoderConfig, ModelConfig
from train.head_width import decoder_head_width, encoder_head_width

Weights = Mapping[str, Tensor]

DECODER, WINDOW, GLOBAL = "decoder.decoder.layers.", "encoder.window.blocks.", "encoder.global.layers."
EMBEDDING, OUTPUT = "decoder.embedding.word_embeddings.weight", "decoder.output_layer.weight"
FINAL_NORM = "decoder.decoder.final_layernorm.weight"
NORMS = ("self_attention.linear_qkv.layer_norm_weight", "mlp.linear_fc1.layer_norm_weight")  # of a layer


@dataclass(frozen=True)
class Axis:
    """An axis of a tensor, [outer * units * inner] long: each unit has `inner` neighbours in each of `outer` blocks."""

    key: str
    axis: int
    outer: int = 1
    inner: int = 1

    def by_unit(self, tensor: Tensor) -> Tensor:
        """What belongs to each unit, [units, the rest]."""
        return tensor.unflatten(self.axis, (self.outer, -1, self.inner)).movedim(self.axis + 1, 0).flatten(1)

    def take(self, tensor: Tensor, index: Tensor) -> Tensor:
        """The tensor with the units of `index`, in this order; a unit may come more than once."""
        parts = tensor.unflatten(self.axis, (self.outer, -1, self.inner))
        return parts.index_select(self.axis + 1, index).flatten(self.axis, self.axis + 2)

    def scaled(self, tensor: Tensor, factors: Tensor) -> Tensor:
        """The tensor with each unit's part times its factor [units]."""
        parts = tensor.unflatten(self.axis, (self.outer, -1, self.inner))
        shape = [1] * parts.ndim
        shape[self.axis + 1] = -1
        return (parts * factors.view(shape).to(parts.dtype)).flatten(self.axis, self.axis + 2)


@dataclass(frozen=True)
class Units:
    """The units of one kind in one layer: the tensors that make them (`made`), and those that read what they give (`read`).

    of_experts: each expert has units of its own; the tensors have one axis more, experts, at the front.
    """

    made: tuple[Axis, ...]
    read: tuple[Axis, ...]
    of_experts: bool = False

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All of them."""
        return self.made + self.read


def units_of(model: ModelConfig, name: str) -> dict[int, Units]:
    """Layer → the units whose number `prune.NAME` and `grow.NAME` change there; of "shared" the features of shared experts."""
    decoder, encoder = model.decoder, model.encoder
    dense, layers = range(decoder.dense_layers), range(decoder.layers)
    sparse = range(decoder.dense_layers, decoder.layers)
    match name:
        case "heads":
            return {layer: _heads(decoder, f"{DECODER}{layer}.self_attention.") for layer in layers}
        case "ffn":
            return {layer: _gated(f"{DECODER}{layer}.mlp.") for layer in dense}
        case "shared":
            return {
                layer: _gated(f"{DECODER}{layer}.mlp.shared_experts.")
                for layer in sparse
                if decoder.shared_experts
            }
        case "expert_ffn":
            return {
                layer: _gated(f"{DECODER}{layer}.mlp.experts.experts.", of_experts=True) for layer in sparse
            }
        case "experts":
            return {layer: _experts(f"{DECODER}{layer}.mlp.") for layer in sparse}
        case "window_heads":
            return {
                layer: _encoder_heads(encoder, f"{WINDOW}{layer}.", "window")
                for layer in range(encoder.window_depth)
            }
        case "global_heads":
            return {
                layer: _encoder_heads(encoder, f"{GLOBAL}{layer}.", "global")
                for layer in range(encoder.global_depth)
            }
        case "window_mlp":
            return {
                layer: _plain(f"{WINDOW}{layer}.", "lin1", "lin2") for layer in range(encoder.window_depth)
            }
        case "global_mlp":
            return {layer: _plain(f"{GLOBAL}{layer}.", "fc1", "fc2") for layer in range(encoder.global_depth)}
    raise KeyError(name)


def _heads(decoder: DecoderConfig, prefix: str) -> Units:
    width = decoder_head_width(decoder)
    return Units(
        (Axis(f"{prefix}linear_qkv.weight", 0, 1, 3 * width),),
        (Axis(f"{prefix}linear_proj.weight", 1, 1, width),),
    )


def _gated(prefix: str, of_experts: bool = False) -> Units:
    return Units(
        (Axis(f"{prefix}linear_fc1.weight", 0, 2),), (Axis(f"{prefix}linear_fc2.weight", 1),), of_experts
    )


def _experts(prefix: str) -> Units:
    """The router's rows say when an expert is asked."""
    own = f"{prefix}experts.experts.linear_"
    return Units(
        (Axis(f"{prefix}router.weight", 0), Axis(f"{own}fc1.weight", 0)), (Axis(f"{own}fc2.weight", 0),)
    )


def _encoder_heads(encoder: EncoderConfig, prefix: str, branch: str) -> Units:
    width = encoder_head_width(encoder, branch)
    made = tuple(Axis(f"{prefix}attn.qkv.{part}", 0, 1, 3 * width) for part in ("weight", "bias"))
    return Units(made, (Axis(f"{prefix}attn.proj.weight", 1, 1, width),))


def _plain(prefix: str, first: str, second: str) -> Units:
    return Units(
        tuple(Axis(f"{prefix}{first}.{part}", 0) for part in ("weight", "bias")),
        (Axis(f"{prefix}{second}.weight", 1),),
    )


@dataclass(frozen=True)
class Width:
    """The tensors along the decoder's width: those that write features, those that read them, and the norms in between."""

    written: tuple[Axis, ...]
    read: tuple[Axis, ...]
    norms: tuple[Axis, ...]


def width_of(weights: Weights) -> Width:
    """Of the tensors that there are."""
    written = [Axis(EMBEDDING, 1), Axis("encoder.projector.weight", 0), Axis("encoder.projector.bias", 0)]
    written += [Axis("encoder.newline", 0), Axis("encoder.separator", 0)]
    read, norms = [Axis(OUTPUT, 1), Axis("glyph_heads.token.weight", 1)], [Axis(FINAL_NORM, 0)]
    for key in weights:
        if not key.startswith(DECODER):
            continue
        if key.endswith("layer_norm_weight"):
            norms.append(Axis(key, 0))
        elif key.endswith(("linear_proj.weight", "linear_fc2.weight")):
            written.append(Axis(key, weights[key].ndim - 2))
        else:  # linear_qkv, linear_fc1, router
            read.append(Axis(key, weights[key].ndim - 1))
    found = [tuple(axis for axis in axes if axis.key in weights) for axes in (written, read, norms)]
    return Width(*found)


def layers_of(prefix: str, weights: Weights) -> Iterator[tuple[int, str, str]]:
    """(layer, name in the layer, key) of every tensor whose key begins with `prefix` and a number."""
    for key in weights:
        if key.startswith(prefix):
            number, name = key.removeprefix(prefix).split(".", 1)
            yield int(number), name, key
