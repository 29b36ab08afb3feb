"""Models that cannot be built."""

from collections.abc import Iterator

from conf import rules
from train.config import Config, DecoderConfig, EncoderConfig

ENCODER_SIZES = (
    "image_size patch window_width window_depth window_heads window_size window_mlp neck_width "
    "global_depth global_heads global_mlp"
)


ENCODERS = ("optical", "mean_pool", "convolution", "truncation")


def model_faults(config: Config) -> Iterator[str]:
    """A sentence for every impossible value of `config.model`."""
    yield from _encoder(config.model.encoder)
    yield from _decoder(config.model.decoder)
    yield from _glyphs(config)
    if config.model.encoder.kind != "optical":
        yield from _baseline(config)


def _encoder(encoder: EncoderConfig) -> Iterator[str]:
    yield from rules.one_of("model.encoder.kind", encoder.kind, ENCODERS)
    yield from rules.positive("model.encoder", encoder, ENCODER_SIZES)
    yield from rules.image_size("model.encoder.image_size", encoder.image_size, encoder.patch)
    yield from rules.at_least("model.encoder.window_head_width", encoder.window_head_width, 0)
    yield from rules.at_least("model.encoder.global_head_width", encoder.global_head_width, 0)
    if not encoder.window_head_width:
        name, heads = "model.encoder.window_heads", encoder.window_heads
        yield from rules.divides(name, heads, "model.encoder.window_width", encoder.window_width)
    widths = encoder.compressor_widths
    if len(widths) != 2 or min(widths) < 1:
        yield f"model.encoder.compressor_widths={widths}: give two widths, one for each convolution."
    elif not encoder.global_head_width:
        name = "model.encoder.compressor_widths[1]"
        yield from rules.divides("model.encoder.global_heads", encoder.global_heads, name, widths[1])
    outside = [layer for layer in encoder.global_layers if not 0 <= layer < encoder.window_depth]
    if outside:
        last = encoder.window_depth - 1
        yield f"model.encoder.global_layers={encoder.global_layers}: choose from 0 to {last}."


def _decoder(decoder: DecoderConfig) -> Iterator[str]:
    sizes = "layers width heads ffn vocab_size max_length rope_theta norm_eps"
    yield from rules.positive("model.decoder", decoder, sizes)
    yield from rules.at_least("model.decoder.shared_experts", decoder.shared_experts, 0)
    yield from rules.at_least("model.decoder.aux_loss", decoder.aux_loss, 0)
    yield from rules.at_least("model.decoder.attention_rank", decoder.attention_rank, 0)
    yield from rules.at_least("model.decoder.ffn_rank", decoder.ffn_rank, 0)
    yield from _heads(decoder)
    if not 0 <= decoder.dense_layers <= decoder.layers:
        yield f"model.decoder.dense_layers={decoder.dense_layers}: choose 0 to model.decoder.layers={decoder.layers}."
    if decoder.dense_layers < decoder.layers:
        yield from rules.positive("model.decoder", decoder, "experts experts_per_token expert_ffn")
        if decoder.experts_per_token > decoder.experts:
            yield (
                f"model.decoder.experts_per_token={decoder.experts_per_token}: there are "
                f"model.decoder.experts={decoder.experts}. Choose {decoder.experts} or less."
            )


def _heads(decoder: DecoderConfig) -> Iterator[str]:
    """Heads share out the width, unless their own is given; rotary positions turn pairs of features."""
    heads, width, own = decoder.heads, decoder.width, decoder.head_width
    yield from rules.at_least("model.decoder.head_width", own, 0)
    if own > 0:
        if own % 2:
            yield f"model.decoder.head_width={own}: rotary positions need an even number. Choose model.decoder.head_width={own + 1}."
        return
    yield from rules.divides("model.decoder.heads", heads, "model.decoder.width", width)
    if heads > 0 and width % heads == 0 and width // heads % 2:
        yield f"model.decoder.heads={heads}: a head of {width // heads} features; rotary positions need an even number."


def _baseline(config: Config) -> Iterator[str]:
    """A model that is given texts in place of pages has no patches, and nothing of its own for a stage."""
    kind = f"model.encoder.kind={config.model.encoder.kind}"
    if config.model.glyph_heads:
        yield f"model.glyph_heads=true: {kind} sees no glyphs. Choose model.glyph_heads=false."
    if config.parallel.encoder_stages:
        yield (
            f"parallel.encoder_stages={config.parallel.encoder_stages}: {kind} needs none. Choose parallel.encoder_stages=0."
        )
    tiled = [mode for mode in config.data.modes if "+" in mode or mode.startswith("gundam")]
    if tiled:
        yield f"data.modes={config.data.modes}: {kind} knows no tiles. Choose modes of one view, such as data.modes=[base]."


def _glyphs(config: Config) -> Iterator[str]:
    classes, objective = config.model.glyph_classes, config.stage.objective
    if not 1 <= classes <= 256:
        yield f"model.glyph_classes={classes}: choose 1 to 256; a class is stored in a byte."
    yield from rules.at_least("stage.objective.patch_glyphs", objective.patch_glyphs, 0)
    yield from rules.at_least("stage.objective.token_glyphs", objective.token_glyphs, 0)
    if (objective.patch_glyphs > 0 or objective.token_glyphs > 0) and not config.model.glyph_heads:
        yield (
            "model.glyph_heads=false: stage.objective weighs the glyph map. Choose model.glyph_heads=true, "
            "or stage.objective.patch_glyphs=0 stage.objective.token_glyphs=0."
        )
