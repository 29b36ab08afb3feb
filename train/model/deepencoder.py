"""DeepEncoder: a page in, few vision tokens out.

The windowed branch reads the page at full resolution, two strided convolutions leave a 16th of its tokens,
and the global branch attends over those. Both branches' features go into each vision token.

Pages come as stacks of views, each of one size; their vision tokens make one table, from which a page takes what
stands at its positions.

Shapes: V views of a stack, S pixels a side, G = S / patch, F = G / 4 vision tokens a side, N vision tokens of all
stacks (view by view, row by row), C compressed width, D decoder width. Source: DeepSeek-OCR (arXiv 2510.18234); the
global branch is CLIP-L's transformer.
"""

from typing import NamedTuple

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from data_pipeline.resolution import token_side
from parallel.layers import (
    Attention,
    Convolution,
    LayerNorm,
    Linear,
    Module,
    ModuleList,
    Stacks,
    linear_pair,
    recomputed,
)
from train.config import EncoderConfig
from train.model.placement import Part
from train.model.window import WindowBranch, stretched

NORM_EPS = 1e-5


class Vision(NamedTuple):
    """What DeepEncoder makes of pages; None for what other pipeline pieces make. A tuple, because ZeRO-3 looks for
    tensors in tuples.
    """

    features: torch.Tensor | None = None  # [N, 1, C], compressed: what the windowed branch's stage sends
    patches: tuple[torch.Tensor, ...] | None = (
        None  # [V, G, G, window width], the windowed branch before its neck
    )
    tokens: tuple[torch.Tensor, ...] | None = None  # [V, F * F, D]
    table: torch.Tensor | None = None  # [N + 2, D]: all vision tokens, newline, separator


class DeepEncoder(Module):
    """Stacks of pages [V, 3, S, S] in [-1, 1] -> vision tokens; or the half of it that `part` names."""

    def __init__(self, encoder: EncoderConfig, width: int, config: TransformerConfig, part: Part) -> None:
        super().__init__(config)
        self.part, self.patch = part, encoder.patch
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

    def forward(self, stacks: Stacks, features_N1C: torch.Tensor | None = None) -> Vision:
        """Encodes pages of any sizes that are multiples of 4 patches. features_N1C: what the windowed branch made of
        `stacks` where that is on another stage; only their shapes are read then.
        """
        if features_N1C is not None:
            return self._read(self._apart(features_N1C, stacks))
        maps, patches = self.window(stacks)
        features = [self.compressor(feature_map).flatten(2).transpose(1, 2) for feature_map in maps]
        if self.part.embedding:
            return self._read(features)._replace(patches=tuple(patches))
        # A tensor of its own, not a view: pipeline schedules free what they have sent.
        return Vision(
            torch.cat([stack.flatten(0, 1) for stack in features]).unsqueeze(1).clone(), tuple(patches)
        )

    def _apart(self, features_N1C: torch.Tensor, stacks: Stacks) -> list[torch.Tensor]:
        """Features of each stack, [V, F * F, C]."""
        counts = [(len(stack), token_side(stack.shape[-1], self.patch) ** 2) for stack in stacks]
        parts = features_N1C.squeeze(1).split([views * tokens for views, tokens in counts])
        return [part.unflatten(0, count) for part, count in zip(parts, counts, strict=True)]

    def _read(self, features: Stacks) -> Vision:
        """Vision tokens from the compressed features of each stack, [V, F * F, C]."""
        tokens = tuple(
            self.projector(torch.cat([global_VLC[:, 1:], local_VLC], dim=-1))
            for global_VLC, local_VLC in zip(self.get_submodule("global")(features), features)
        )
        table = [*(stack.flatten(0, 1) for stack in tokens), torch.stack([self.newline, self.separator])]
        return Vision(None, None, tokens, torch.cat(table))


class Compressor(Module):
    """Two bias-free convolutions of stride 2: a 16th of the tokens. Nothing stands between them."""

    def __init__(self, encoder: EncoderConfig, config: TransformerConfig) -> None:
        super().__init__(config)
        first, second = encoder.compressor_widths
        options = {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False, "dtype": config.params_dtype}
        self.conv1 = Convolution(encoder.neck_width, first, **options)
        self.conv2 = Convolution(first, second, **options)

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
            GlobalBlock(width, encoder.global_heads, encoder.global_head_width, encoder.global_mlp, config)
            for _ in range(encoder.global_depth)
        )

    def forward(self, stacks: Stacks) -> Stacks:
        """Of each stack [V, F * F, C] -> [V, 1 + F * F, C], the class token first."""
        stacks = [self.pre_norm(self.embed(x_VLC)) for x_VLC in stacks]
        for layer in self.layers:
            stacks = recomputed("full", layer, layer, stacks)
        return stacks

    def embed(self, x_VLC: torch.Tensor) -> torch.Tensor:
        """[V, F * F, C] -> [V, 1 + F * F, C], with the class token and positions."""
        views, count, width = x_VLC.shape
        first = self.class_embedding.expand(views, 1, width)
        return torch.cat([first, x_VLC], dim=1) + self.positions(round(count**0.5))

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

    def __init__(
        self, width: int, heads: int, head_width: int, hidden: int, config: TransformerConfig
    ) -> None:
        super().__init__(config)
        self.norm1 = LayerNorm(config, width, NORM_EPS)
        self.attn = Attention(config, width, heads, head_width)
        self.norm2 = LayerNorm(config, width, NORM_EPS)
        first, second = linear_pair(config, hidden)
        self.fc1 = first(config, width, hidden)
        self.fc2 = second(config, hidden, width)

    def forward(self, stacks: Stacks) -> Stacks:
        """Of each stack [V, L, C] -> [V, L, C]."""
        stacks = [x_VLC + self.attn(self.norm1(x_VLC)) for x_VLC in stacks]
        return [x + more for x, more in zip(stacks, recomputed("selective", self, self.feed_forward, stacks))]

    def feed_forward(self, stacks: Stacks) -> Stacks:
        """The second half of the block, without the residual."""
        hidden = [self.fc1(self.norm2(x_VLC)) for x_VLC in stacks]
        return [self.fc2(features * torch.sigmoid(1.702 * features)) for features in hidden]
