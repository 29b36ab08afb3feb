"""Features of an attention head: an equal share of the width, unless heads were pruned or added, which leaves them as they were."""

from train.config import DecoderConfig, EncoderConfig


def decoder_head_width(decoder: DecoderConfig) -> int:
    """Of the decoder."""
    return decoder.head_width or decoder.width // decoder.heads


def encoder_head_width(encoder: EncoderConfig, branch: str) -> int:
    """Of the encoder's "window" or "global" branch."""
    return getattr(encoder, f"{branch}_head_width") or encoder_width(encoder, branch) // getattr(
        encoder, f"{branch}_heads"
    )


def encoder_width(encoder: EncoderConfig, branch: str) -> int:
    """Features of the encoder's "window" or "global" branch itself."""
    return encoder.window_width if branch == "window" else encoder.compressor_widths[-1]
