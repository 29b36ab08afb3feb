"""DeepEncoder: a page in, few vision tokens out.

The windowed branch reads the page at full resolution, two strided convolutions leave a 16th of its tokens,
and the global branch attends over those. Both branches' features go into each vision token.

Shapes: V views, S pixels a side, G = S / patch, F = G / 4 vision tokens a side, C compressed width, D
decoder width. Source: DeepSeek-OCR (arXiv 2510.18234); the global branch is CLIP-L's transformer.
"""

from typing import NamedTuple

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import (
    Attention,
    LayerNorm,
    Linear,
    Module,
    ModuleList,
    linear_pair,
    recomputed,
)
from train.config import EncoderConfig
from train.model.placement import Part
from train.model.window import WindowBranch, stretched

NORM_EPS = 1e-5


class Vision(NamedTuple):
    """What DeepEncoder makes of V pages; None for what other pipeline pieces make. A tuple, because ZeRO-3 looks
    for tensors in tuples.
    """

    features: torch.Tensor | None = None  # [F * F, V, C], compressed: what the windowed branch's stage sends
    patches: torch.Tensor | None = None  # [V, G, G, window width], the windowed branch before its neck
    tokens: torch.Tensor | None = None  # [V, F * F, D], row by row of the page
    rows: torch.Tensor | None = None  # [V, F * (F + 1) + 1, D], as the decoder reads them


class DeepEncoder(Module):
    """Pages [V, 3, S, S] in [-1, 1] -> vision tokens [V, F * F, D]; or the half of it that `part` names."""

    def __init__(self, encoder: EncoderConfig, width: int, config: TransformerConfig, part: Part) -> None:
        super().__init__(config)
        self.part = part
        compressed = encoder.compressor_widths[-1]
        if part.window:
            self.window = WindowBranch(encoder, config)
            self.compressor = Compressor(encoder, config)
        if part.embedding:
            # a keyword in Python, the right name in a checkpoint
            self.add_module("global", GlobalBranch(encoder, config))
            self.projector = Linear(config, 2 * compressed, width)
            self.newline = torch.nn.Parameter(torch.empty(width, dtype=config.params_dtype))
            self.separator = torch.nn.Parameter(torch.empty(width, dtype=config.params_dtype))

    def forward(self, pages_V3SS: torch.Tensor | None, features_LVC: torch.Tensor | None = None) -> Vision:
        """Encodes pages of any size that is a multiple of 4 patches. features_LVC: in place of pages where the
        windowed branch is on another stage, what it made, [F * F, V, C].
        """
        patches = None
        if self.part.window:
            feature_map, patches = self.window(pages_V3SS)
            # A tensor of its own, not a view: pipeline schedules free what they have sent.
            features_LVC = (
                self.compressor(feature_map)
                .flatten(2)
                .permute(2, 0, 1)
                .clone(memory_format=torch.contiguous_format)
            )
        if not self.part.embedding:
            return Vision(features_LVC, patches)
        assert features_LVC is not None
        local_VLC = features_LVC.transpose(0, 1)
        global_VLC = self.get_submodule("global")(local_VLC)
        tokens_VLD = self.projector(torch.cat([global_VLC[:, 1:], local_VLC], dim=-1))
        return Vision(features_LVC, patches, tokens_VLD, self._laid_out(tokens_VLD))

    def _laid_out(self, tokens_VLD: torch.Tensor) -> torch.Tensor:
        """Vision tokens as the decoder reads them, [V, F * (F + 1) + 1, D]: a newline ends each row, the
        separator ends the page.
        """
        views, count, width = tokens_VLD.shape
        side = round(count**0.5)
        newline = self.newline.expand(views, side, 1, width)
        rows = torch.cat([tokens_VLD.view(views, side, side, width), newline], dim=2).flatten(1, 2)
        return torch.cat([rows, self.separator.expand(views, 1, width)], dim=1)


class Compressor(Module):
    """Two bias-free convolutions of stride 2: a 16th of the tokens. Nothing stands between them."""

    def __init__(self, encoder: EncoderConfig, config: TransformerConfig) -> None:
        super().__init__(config)
        first, second = encoder.compressor_widths
        options = {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False, "dtype": config.params_dtype}
        self.conv1 = torch.nn.Conv2d(encoder.neck_width, first, **options)
        self.conv2 = torch.nn.Conv2d(first, second, **options)

    def forward(self, x_VCGG: torch.Tensor) -> torch.Tensor:
        """[V, neck width, G, G] -> [V, C, F, F]."""
        return self.conv2(self.conv1(x_VCGG))


class GlobalBranch(Module):
    """CLIP's transformer over the compressed features, which take the place of its own patch embedding. No
    norm at the end.
    """

    def __init__(self, encoder: EncoderConfig, config: TransformerConfig) -> None:
        super().__init__(config)
        width, side = encoder.compressor_widths[-1], encoder.image_size // encoder.patch // 4
        self.class_embedding = torch.nn.Parameter(torch.empty(width, dtype=config.params_dtype))
        self.position_embedding = torch.nn.Parameter(
            torch.empty(1 + side * side, width, dtype=config.params_dtype)
        )
        self.pre_norm = LayerNorm(config, width, NORM_EPS)
        self.layers = ModuleList(
            GlobalBlock(width, encoder.global_heads, encoder.global_mlp, config)
            for _ in range(encoder.global_depth)
        )

    def forward(self, x_VLC: torch.Tensor) -> torch.Tensor:
        """[V, F * F, C] -> [V, 1 + F * F, C], the class token first."""
        views, count, width = x_VLC.shape
        first = self.class_embedding.expand(views, 1, width)
        x_VLC = torch.cat([first, x_VLC], dim=1) + self.positions(round(count**0.5))
        x_VLC = self.pre_norm(x_VLC)
        for layer in self.layers:
            x_VLC = recomputed("full", layer, layer, x_VLC)
        return x_VLC

    def positions(self, side: int) -> torch.Tensor:
        """Position table for side * side tokens and the class token before them, [1 + side * side, C]."""
        table = self.position_embedding
        if table.shape[0] == 1 + side * side:
            return table
        native = round((table.shape[0] - 1) ** 0.5)
        return torch.cat(
            [table[:1], stretched(table[1:].view(1, native, native, -1), side).reshape(side * side, -1)]
        )


class GlobalBlock(Module):
    """Pre-norm block of CLIP, with its approximation of GELU."""

    def __init__(self, width: int, heads: int, hidden: int, config: TransformerConfig) -> None:
        super().__init__(config)
        self.norm1 = LayerNorm(config, width, NORM_EPS)
        self.attn = Attention(config, width, heads)
        self.norm2 = LayerNorm(config, width, NORM_EPS)
        first, second = linear_pair(config, hidden)
        self.fc1 = first(config, width, hidden)
        self.fc2 = second(config, hidden, width)

    def forward(self, x_VLC: torch.Tensor) -> torch.Tensor:
        """[V, L, C] -> [V, L, C]."""
        x_VLC = x_VLC + self.attn(self.norm1(x_VLC))
        return x_VLC + recomputed("selective", self, self.feed_forward, x_VLC)

    def feed_forward(self, x_VLC: torch.Tensor) -> torch.Tensor:
        """The second half of the block, without the residual."""
        hidden = self.fc1(self.norm2(x_VLC))
        return self.fc2(hidden * torch.sigmoid(1.702 * hidden))
