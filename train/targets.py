"""The layers of a model that a transform may be attached to, by name, group and pattern, with their sizes. Loads no torch: a
wrong name is refused before anything starts.

A name is that of the layer in the whole model, `decoder.decoder.layers.3.self_attention.linear_qkv`; of a layer's experts
there are two, `….mlp.experts.fc1` and `….fc2`. A pattern may hold `*`, as in `*.linear_proj`, or be a prefix, `encoder.global`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from conf.errors import ConfigError
from conf.rules import meant
from train.config import DecoderConfig, EncoderConfig, ModelConfig
from train.head_width import decoder_head_width, encoder_head_width

LAYER = "decoder.decoder.layers.*"
GROUPS: dict[str, tuple[str, ...]] = {
    "attention": (f"{LAYER}.self_attention.*",),
    "dense": (f"{LAYER}.mlp.linear_*",),
    "shared_experts": (f"{LAYER}.shared_experts.*",),
    "experts": (f"{LAYER}.mlp.experts.*",),
    "embedding": ("decoder.embedding.word_embeddings",),
    "head": ("decoder.output_layer",),
    "window": ("encoder.window.blocks.*",),
    "global": ("encoder.global.layers.*",),
    "convolutions": ("encoder.window.patch_embed", "encoder.window.neck.*", "encoder.compressor.*"),
    "projector": ("encoder.projector",),
}


@dataclass(frozen=True)
class Target:
    """A layer that can carry transforms: its name, the sizes of its matrix, and what tensor ranks share out of it where their
    number divides the heads and features ("outputs", "inputs" or nothing). kind: as that of parallel.layers.Site.
    """

    name: str
    outputs: int
    inputs: int
    split: str = ""
    kind: str = "linear"


def targets_of(model: ModelConfig) -> list[Target]:
    """Every such layer, in the model's order."""
    decoder = model.decoder
    encoder = list(_encoder(model)) if model.encoder.kind == "optical" else []
    embedding = Target(
        "decoder.embedding.word_embeddings", decoder.width, decoder.vocab_size, "inputs", "embedding"
    )
    head = Target("decoder.output_layer", decoder.vocab_size, decoder.width, "outputs")
    return [*encoder, embedding, *_decoder(decoder), head]


def chosen(model: ModelConfig, names: Sequence[str], option: str) -> list[Target]:
    """The layers that `names`, groups or patterns, stand for; groups of which this model has none are left out.

    option: what the user typed them for. Raises ConfigError for one that names nothing, with what was probably meant.
    """
    known = targets_of(model)
    found: set[Target] = set()
    for name in names:
        matched = [target for target in known if matches(target.name, name)]
        if not matched and name not in GROUPS:
            layers = dict.fromkeys(_without_number(target.name) for target in known)
            guess = meant(name, [*GROUPS, *layers, *(layer.rpartition(".")[2] for layer in layers)])
            raise ConfigError(
                f"{option}: no layer is named {name}.{guess} Groups: {', '.join(GROUPS)}; layers: {', '.join(layers)}."
            )
        found.update(matched)
    if not found:
        raise ConfigError(
            f"{option}={list(names)}: this model has no such layers. Choose of {', '.join(GROUPS)}."
        )
    return [target for target in known if target in found]


def matches(layer: str, name: str) -> bool:
    """Whether a layer is one of those that a group, a pattern, a prefix or a layer's own last name stands for."""
    patterns = GROUPS.get(name, (name, f"{name}.*", f"*.{name}"))
    return any(fnmatchcase(layer, pattern) for pattern in patterns)


def _encoder(model: ModelConfig) -> Iterator[Target]:
    encoder: EncoderConfig = model.encoder
    width, neck, (first, second) = encoder.window_width, encoder.neck_width, encoder.compressor_widths
    yield Target("encoder.window.patch_embed", width, 3 * encoder.patch**2, kind="convolution")
    for block in range(encoder.window_depth):
        own = f"encoder.window.blocks.{block}"
        heads = encoder.window_heads * encoder_head_width(encoder, "window")
        yield from _attention(f"{own}.attn", "qkv", "proj", width, heads)
        yield from _pair(f"{own}.lin1", f"{own}.lin2", width, encoder.window_mlp)
    yield Target("encoder.window.neck.conv1", neck, width, kind="convolution")
    yield Target("encoder.window.neck.conv2", neck, 9 * neck, kind="convolution")
    yield Target("encoder.compressor.conv1", first, 9 * neck, kind="convolution")
    yield Target("encoder.compressor.conv2", second, 9 * first, kind="convolution")
    for layer in range(encoder.global_depth):
        own = f"encoder.global.layers.{layer}"
        heads = encoder.global_heads * encoder_head_width(encoder, "global")
        yield from _attention(f"{own}.attn", "qkv", "proj", second, heads)
        yield from _pair(f"{own}.fc1", f"{own}.fc2", second, encoder.global_mlp)
    yield Target("encoder.projector", model.decoder.width, 2 * second)


def _decoder(decoder: DecoderConfig) -> Iterator[Target]:
    width, heads = decoder.width, decoder.heads * decoder_head_width(decoder)
    for number in range(decoder.layers):
        layer = LAYER.replace("*", str(number))
        attention = _attention(f"{layer}.self_attention", "linear_qkv", "linear_proj", width, heads)
        yield from _factored(attention, decoder.attention_rank)
        if number < decoder.dense_layers:
            yield from _factored(_swiglu(f"{layer}.mlp.linear_", width, decoder.ffn), decoder.ffn_rank)
            continue
        yield from _swiglu(f"{layer}.mlp.experts.", width, decoder.expert_ffn, "experts")
        if decoder.shared_experts:
            hidden = decoder.shared_experts * decoder.expert_ffn
            shared = _swiglu(f"{layer}.mlp.shared_experts.linear_", width, hidden)
            yield from _factored(shared, decoder.ffn_rank)


def _factored(layers: Iterator[Target], rank: int) -> Iterator[Target]:
    """As they are, or where there is a `rank` the two layers in the place of each."""
    for one in layers:
        if not rank:
            yield one
            continue
        by_outputs = one.split == "outputs"
        yield Target(f"{one.name}.narrow", rank, one.inputs, "" if by_outputs else one.split)
        yield Target(f"{one.name}.wide", one.outputs, rank, one.split if by_outputs else "")


def _attention(prefix: str, first: str, second: str, width: int, heads: int) -> Iterator[Target]:
    """heads: features of all heads together."""
    yield Target(f"{prefix}.{first}", 3 * heads, width, "outputs")
    yield Target(f"{prefix}.{second}", width, heads, "inputs")


def _pair(first: str, second: str, width: int, hidden: int) -> Iterator[Target]:
    yield Target(first, hidden, width, "outputs")
    yield Target(second, width, hidden, "inputs")


def _swiglu(prefix: str, width: int, hidden: int, kind: str = "linear") -> Iterator[Target]:
    outputs, inputs = ("", "") if kind == "experts" else ("outputs", "inputs")
    yield Target(f"{prefix}fc1", 2 * hidden, width, outputs, kind)
    yield Target(f"{prefix}fc2", width, hidden, inputs, kind)


def _without_number(layer: str) -> str:
    return ".".join("*" if part.isdecimal() else part for part in layer.split("."))
