"""The windowed branch of DeepEncoder: SAM's image encoder (ViTDet), with position tables that stretch to any
page size.

Shapes: V views, S pixels a side, G patches a side, D width, N heads, L positions of one attention, C
channels. Source: "Segment Anything" (ViT-B image encoder), as DeepSeek-OCR uses it.
"""

from functools import partial

import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import (
    Attention,
    Convolution,
    LayerNorm,
    Module,
    ModuleList,
    Stacks,
    linear_pair,
    made_again,
    recomputed,
    shared_by_ranks,
)
from train.config import EncoderConfig

NORM_EPS = 1e-6


class WindowBranch(Module):
    """Page -> patches -> blocks of mostly windowed attention -> feature map. Cheap at full resolution:
    windows bound its attention.
    """

    def __init__(self, encoder: EncoderConfig, config: TransformerConfig) -> None:
        super().__init__(config)
        width, grid, dtype = encoder.window_width, encoder.image_size // encoder.patch, config.params_dtype
        self.patch_embed = Convolution(3, width, encoder.patch, encoder.patch, dtype=dtype)
        self.pos_embed = torch.nn.Parameter(torch.empty(1, grid, grid, width, dtype=dtype))
        self.blocks = ModuleList(
            WindowBlock(encoder, config, window=0 if index in encoder.global_layers else encoder.window_size)
            for index in range(encoder.window_depth)
        )
        self.neck = Neck(width, encoder.neck_width, config)

    def forward(self, stacks: Stacks) -> tuple[Stacks, Stacks]:
        """Of each stack [V, 3, S, S]: (feature map [V, C, G, G], patch features before the neck [V, G, G, D])."""
        patches: Stacks = [self.embed(pages_V3SS) for pages_V3SS in stacks]
        for block in self.blocks:
            patches = recomputed("full", block, block, patches)
        return [self.neck(x_VGGD.permute(0, 3, 1, 2)) for x_VGGD in patches], patches

    def embed(self, pages_V3SS: torch.Tensor) -> torch.Tensor:
        """[V, 3, S, S] -> patches with their positions, [V, G, G, D]."""
        x_VGGD = self.patch_embed(pages_V3SS).permute(0, 2, 3, 1)
        return x_VGGD + stretched(self.pos_embed, x_VGGD.shape[1])


class WindowBlock(Module):
    """Pre-norm block; `window` patches a side, 0 for attention over the whole page."""

    def __init__(self, encoder: EncoderConfig, config: TransformerConfig, window: int) -> None:
        super().__init__(config)
        width, grid = encoder.window_width, encoder.image_size // encoder.patch
        self.window = window
        self.norm1 = LayerNorm(config, width, NORM_EPS)
        self.attn = RelativeAttention(
            config, width, encoder.window_heads, encoder.window_head_width, side=window or grid
        )
        self.norm2 = LayerNorm(config, width, NORM_EPS)
        first, second = linear_pair(config, encoder.window_mlp)
        self.lin1 = first(config, width, encoder.window_mlp)
        self.lin2 = second(config, encoder.window_mlp, width)

    def forward(self, stacks: Stacks) -> Stacks:
        """Of each stack [V, G, G, D] -> [V, G, G, D]."""
        stacks = [x_VGGD + self.attend(self.norm1(x_VGGD)) for x_VGGD in stacks]
        return [x + more for x, more in zip(stacks, recomputed("selective", self, self.feed_forward, stacks))]

    def attend(self, normed_VGGD: torch.Tensor) -> torch.Tensor:
        """Attention in windows, or over the whole page."""
        if not self.window:
            return self.attn(normed_VGGD)
        return from_windows(self.attn(to_windows(normed_VGGD, self.window)), self.window, normed_VGGD.shape)

    def feed_forward(self, stacks: Stacks) -> Stacks:
        """The second half of the block, without the residual."""
        return [self._expanded(self.norm2(x_VGGD).flatten(1, 2)).view(x_VGGD.shape) for x_VGGD in stacks]

    def _expanded(self, x_VLD: torch.Tensor) -> torch.Tensor:
        hidden = self.lin1(x_VLD)
        active = F.gelu(hidden)
        with made_again(active, partial(F.gelu, hidden.detach()), self.lin2):
            return self.lin2(active)


class RelativeAttention(Attention):
    """Attention over a square, with a learned vector for each vertical and each horizontal offset between
    two positions.
    """

    def __init__(
        self, config: TransformerConfig, width: int, heads: int, head_width: int, side: int
    ) -> None:
        super().__init__(config, width, heads, head_width)
        self.rel_pos_h = torch.nn.Parameter(
            torch.empty(2 * side - 1, self.head_width, dtype=config.params_dtype)
        )
        self.rel_pos_w = torch.nn.Parameter(
            torch.empty(2 * side - 1, self.head_width, dtype=config.params_dtype)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, G, G, D] -> [B, G, G, D], B windows or pages."""
        rows, columns = (
            offset_vectors(shared_by_ranks(table) if self.split else table, x.shape[1])
            for table in (self.rel_pos_h, self.rel_pos_w)
        )
        return self.on_square(x.flatten(1, 2), rows, columns).view(x.shape)


class Neck(Module):
    """Two bias-free convolutions, each followed by a norm over channels, to the width the compressor
    takes.
    """

    def __init__(self, width: int, channels: int, config: TransformerConfig) -> None:
        super().__init__(config)
        self.conv1 = Convolution(width, channels, 1, bias=False, dtype=config.params_dtype)
        self.norm1 = LayerNorm(config, channels, NORM_EPS)
        self.conv2 = Convolution(channels, channels, 3, padding=1, bias=False, dtype=config.params_dtype)
        self.norm2 = LayerNorm(config, channels, NORM_EPS)

    def forward(self, x_VDGG: torch.Tensor) -> torch.Tensor:
        """[V, D, G, G] -> [V, C, G, G]."""
        return over_channels(self.norm2, self.conv2(over_channels(self.norm1, self.conv1(x_VDGG))))


def over_channels(norm: LayerNorm, x_VCGG: torch.Tensor) -> torch.Tensor:
    """`norm`, which works on the last axis, applied over the channels of a feature map."""
    return norm(x_VCGG.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def to_windows(x_VGGD: torch.Tensor, window: int) -> torch.Tensor:
    """[V, G, G, D] -> [V * windows, window, window, D]; zeros fill up the last row and column of windows
    and are attended to.
    """
    views, grid, _, width = x_VGGD.shape
    missing = -grid % window
    if missing:
        x_VGGD = F.pad(x_VGGD, (0, 0, 0, missing, 0, missing))
    count = (grid + missing) // window
    x = x_VGGD.view(views, count, window, count, window, width).transpose(2, 3)
    return x.reshape(-1, window, window, width)


def from_windows(x: torch.Tensor, window: int, shape: torch.Size) -> torch.Tensor:
    """The inverse of `to_windows`, for a map of `shape` [V, G, G, D]; what filled up is dropped."""
    views, grid, _, width = shape
    count = -(-grid // window)
    x = x.view(views, count, count, window, window, width).transpose(2, 3)
    return x.reshape(views, count * window, count * window, width)[:, :grid, :grid]


def stretched(table_1GGD: torch.Tensor, grid: int) -> torch.Tensor:
    """A position table [1, G, G, D] resized to [1, grid, grid, D] (bicubic, antialiased, in fp32)."""
    if table_1GGD.shape[1] == grid:
        return table_1GGD
    if _by_products(table_1GGD):
        return stretched_by_products(table_1GGD, grid)
    resized = F.interpolate(
        table_1GGD.float().permute(0, 3, 1, 2),
        size=(grid, grid),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    return resized.to(table_1GGD.dtype).permute(0, 2, 3, 1)


def offset_vectors(table: torch.Tensor, side: int) -> torch.Tensor:
    """Relative-position table [rows, H], resized linearly to [2 * side - 1, H]: the vectors of all offsets."""
    if table.shape[0] == 2 * side - 1:
        return table
    if _by_products(table):
        return offsets_by_products(table, side)
    return F.interpolate(table.float().t()[None], size=2 * side - 1, mode="linear")[0].t().to(table.dtype)


def stretched_by_products(table_1GGD: torch.Tensor, grid: int) -> torch.Tensor:
    """`stretched` as two matrix products: torch has no deterministic gradient of the other on GPUs."""
    size = table_1GGD.shape[1]
    unit = torch.eye(size, device=table_1GGD.device)[None, None]
    weights_gG = F.interpolate(unit, size=(grid, size), mode="bicubic", antialias=True, align_corners=False)[0, 0]
    resized = torch.einsum("gr,hc,brcd->bghd", weights_gG, weights_gG, table_1GGD.float())
    return resized.to(table_1GGD.dtype)


def offsets_by_products(table: torch.Tensor, side: int) -> torch.Tensor:
    """`offset_vectors` as a matrix product, for the same reason."""
    unit = torch.eye(table.shape[0], device=table.device)[None]
    weights = F.interpolate(unit, size=2 * side - 1, mode="linear")[0].t()
    return (weights @ table.float()).to(table.dtype)


def _by_products(table: torch.Tensor) -> bool:
    return table.is_cuda and torch.are_deterministic_algorithms_enabled()
