"""What a model consists of: sizes of the encoder and the decoder."""

from dataclasses import dataclass, field


@dataclass
class EncoderConfig:
    """DeepEncoder: a windowed branch (SAM-like), a 16x compressor, and a global branch (CLIP-like).

    All widths are features; `window_mlp` and `global_mlp` are hidden features of the feed-forward layers. The
    width of the global branch is the compressor's last width.

    kind: "optical", or in its place one of the baselines that shorten the page's own text to as many vectors:
    "mean_pool", "convolution", "truncation" (train/model/text_encoder.py), for which the sizes of DeepEncoder but
    `patch` mean nothing.
    """

    kind: str = "optical"  # or a baseline over the page's text: "mean_pool" | "convolution" | "truncation"
    image_size: int = 128  # pixels a side of the square view
    patch: int = 8  # pixels a side of one patch; a vision token covers 4 x 4 patches
    window_width: int = 64
    window_depth: int = 2
    window_heads: int = 4
    window_head_width: int = 0  # features of a head; 0: window_width / window_heads. Heads that were pruned or added leave it as it was
    window_size: int = 4  # patches a side of one attention window
    global_layers: list[int] = field(
        default_factory=lambda: [1]
    )  # layers of the windowed branch that attend to the whole page
    window_mlp: int = 256
    neck_width: int = 64
    compressor_widths: list[int] = field(
        default_factory=lambda: [128, 128]
    )  # after each of the two stride-2 convolutions
    global_depth: int = 2
    global_heads: int = 4
    global_head_width: int = 0  # features of a head; 0: the width / global_heads
    global_mlp: int = 512


@dataclass
class DecoderConfig:
    """The mixture-of-experts language model that reads the vision tokens."""

    layers: int = 3
    width: int = 128
    heads: int = 4
    head_width: int = (
        0  # features of a head; 0: width / heads. Heads that were pruned or added leave it as it was
    )
    ffn: int = 384  # hidden features of the dense feed-forward layers
    dense_layers: int = 1  # the first layers, which have no experts
    experts: int = 8  # routed experts of each later layer
    experts_per_token: int = 2
    expert_ffn: int = 96  # hidden features of one expert
    shared_experts: int = 1  # experts that see every token, of `expert_ffn` features each
    vocab_size: int = 512
    max_length: int = 512  # positions, vision tokens included
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    aux_loss: float = 0.001  # weight of the per-sequence load-balancing loss
    tied_embeddings: bool = False  # one matrix embeds tokens and gives their logits
    attention_rank: int = 0  # attention's matrices are products of two of this rank; 0: whole (train.surgery factorize.attention)
    ffn_rank: int = 0  # the same of dense layers and shared experts (factorize.ffn)


@dataclass
class ModelConfig:
    """One architecture; the files of `conf/model/` differ in numbers only."""

    name: str = "tiny"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    glyph_classes: int = 256  # classes of the glyph map (data_pipeline.record.GLYPH_CLASSES)
    glyph_heads: bool = True  # heads that predict the glyph map; needed where the objective weighs it
