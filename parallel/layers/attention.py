"""Attention by torch's scaled_dot_product_attention, or on a CPU by `cpu_attention`: no L x L matrix is kept for the
backward pass.

Shapes: B batch, L length, D width, N heads of this rank, H head width.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import cpu_attention
from parallel.layers.linear import linear_pair, splits
from parallel.layers.module import Module

Bias = Callable[[torch.Tensor], torch.Tensor]


class Attention(Module):
    """Self-attention of the encoder: every position sees every position of its sequence.

    The rows of `qkv` are ordered head by head, [N, (query, key, value), H], as in megatron-core's decoder:
    a contiguous share of rows is a share of heads. Heads that do not divide over the tensor-parallel ranks
    are computed whole on each of them.
    """

    def __init__(self, config: TransformerConfig, width: int, heads: int, head_width: int = 0) -> None:
        """head_width: features of a head; 0 for width / heads."""
        super().__init__(config)
        self.split = splits(config, heads)
        self.head_width = head_width or width // heads
        first, second = linear_pair(config, heads)
        self.qkv = first(config, width, 3 * heads * self.head_width)
        self.proj = second(config, heads * self.head_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, D] -> [B, L, D]."""
        return self.proj(_over_heads(self.projected(x)))

    def projected(self, x_BLD: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values of this rank's heads, [B, L, N, 3, H]."""
        batch, length, _ = x_BLD.shape
        return self.qkv(x_BLD).view(batch, length, -1, 3, self.head_width)

    def on_square(self, x_BLD: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """`forward` for the positions of a square, row by row, with learned vectors for the offsets between them.

        rows, columns: [2 S - 1, H] for a square of S x S; the scores of query i get its product with number
        i - j + S - 1 of each, for a key j rows (columns) further on.
        """
        qkv = self.projected(x_BLD)
        if cpu_attention.takes(qkv):
            return self.proj(cpu_attention.square_attention(qkv, rows, columns))
        return self.proj(_over_heads(qkv, partial(_offset_scores, rows, columns)))


def _over_heads(qkv: torch.Tensor, bias: Bias | None = None) -> torch.Tensor:
    """[B, L, N, 3, H] -> [B, L, N * H]. bias: from the queries [B, N, L, H], what is added to the scores."""
    q_BNLH, k_BNLH, v_BNLH = qkv.permute(3, 0, 2, 1, 4).unbind(0)
    if bias is None and cpu_attention.takes(qkv):
        out = cpu_attention.short_attention(q_BNLH, k_BNLH, v_BNLH, False, None)
    else:
        scores = None if bias is None else bias(q_BNLH)
        out = F.scaled_dot_product_attention(q_BNLH, k_BNLH, v_BNLH, attn_mask=scores)
    return out.transpose(1, 2).flatten(2)


def _offset_scores(rows: torch.Tensor, columns: torch.Tensor, q_BNLH: torch.Tensor) -> torch.Tensor:
    """What the offsets between positions add to the scores, [B, N, L, L], from unscaled queries."""
    side = rows.shape[0] // 2 + 1
    q, places = q_BNLH.unflatten(2, (side, side)), _offsets(side, rows.device)
    vertical = torch.einsum("bnhwc,hkc->bnhwk", q, rows[places])
    horizontal = torch.einsum("bnhwc,wkc->bnhwk", q, columns[places])
    return (vertical.unsqueeze(-1) + horizontal.unsqueeze(-2)).flatten(4).flatten(2, 3)


@lru_cache(maxsize=32)
def _offsets(side: int, device: torch.device) -> torch.Tensor:
    """Number of the vector for query i and key j: i - j + side - 1."""
    steps = torch.arange(side, device=device)
    return steps[:, None] - steps[None, :] + side - 1


Prefix = tuple[torch.Tensor, torch.Tensor]  # keys and values, [P, 1, N, H] each


class CausalAttentionCore(Module):
    """The decoder's core attention, in the interface of megatron-core's DotProductAttention.

    Handles what the decoder uses: causal attention, also within each of several samples that share a row, and a query
    that sees all cached keys. Padding needs no mask because it stands at the end of a row, where no valid position
    looks. Raises ValueError for dropout or context parallelism in the configuration.

    prefix: a module that gives `Prefix` when called, P keys and values that every position of every sample sees, as if
    they stood before it; None for none. They take no positions of a row, and are not turned by its rotary angles.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        softmax_scale: float | None = None,
        **_: object,
    ) -> None:
        super().__init__(config)
        if config.context_parallel_size != 1 or config.attention_dropout:
            raise ValueError("this attention core has no dropout and no context parallelism")
        self.mask_type, self.scale = attn_mask_type, softmax_scale
        self.prefix: torch.nn.Module | None = None

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        attn_mask_type: AttnMaskType | None = None,
        attention_bias: torch.Tensor | None = None,
        packed_seq_params: object | None = None,
    ) -> torch.Tensor:
        """[L, B, N, H] each (key and value may be longer) -> [L, B, N * H].

        attention_mask: no mask, but where rows hold several samples, int32 [S + 1] on the CPU: where each begins in the
        rows laid end to end, and B * L. megatron-core hands it through as it is; there, no layer waits for a device.
        """
        causal = (attn_mask_type or self.mask_type) == AttnMaskType.causal
        prefix = None if self.prefix is None else self.prefix()
        if attention_mask is None:
            return self._after(prefix, query, key, value, causal)
        if attention_mask.ndim != 1:
            raise ValueError(
                f"bounds of samples are [S + 1], a mask of {tuple(attention_mask.shape)} is not supported"
            )
        return self._within_samples(prefix, query, key, value, attention_mask.diff().tolist(), causal)

    def _within_samples(
        self,
        prefix: Prefix | None,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: list[int],
        causal: bool,
    ) -> torch.Tensor:
        """Each sample as if it stood alone; their `lengths` add up to B * L, and none crosses the end of a row."""
        length, batch, _, _ = query.shape
        # Split, not sliced: the backward of each slice would fill a tensor of the size of all rows.
        parts = (x.transpose(0, 1).flatten(0, 1).unsqueeze(1).split(lengths) for x in (query, key, value))
        out = torch.cat([self._after(prefix, q, k, v, causal) for q, k, v in zip(*parts, strict=True)])
        return out.view(batch, length, -1).transpose(0, 1).contiguous()

    def _after(
        self,
        prefix: Prefix | None,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        causal: bool,
    ) -> torch.Tensor:
        """`_attend` behind a prefix: queries of zeros stand before the others, so that a kernel for a square serves."""
        if prefix is None:
            return self._attend(query, key, value, causal)
        before = [part.expand(-1, key.shape[1], -1, -1) for part in prefix]
        absent = query.new_zeros(len(before[0]), *query.shape[1:])
        pairs = zip((absent, *before), (query, key, value), strict=True)
        q, k, v = (torch.cat(pair) for pair in pairs)
        return self._attend(q, k, v, causal)[len(absent) :]

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool
    ) -> torch.Tensor:
        alike = query.shape == key.shape
        if causal and alike and len(query) > cpu_attention.SHORT and cpu_attention.takes(query):
            scale = query.shape[-1] ** -0.5 if self.scale is None else self.scale
            return cpu_attention.causal_attention(query, key, value, scale)
        q_BNLH, k_BNLH, v_BNLH = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        if alike and cpu_attention.takes(query):
            out = cpu_attention.short_attention(q_BNLH, k_BNLH, v_BNLH, causal, self.scale)
            return out.permute(2, 0, 1, 3).flatten(2)
        grouped = q_BNLH.shape[1] != k_BNLH.shape[1]
        out = F.scaled_dot_product_attention(
            q_BNLH, k_BNLH, v_BNLH, is_causal=causal, scale=self.scale, enable_gqa=grouped
        )
        return out.permute(2, 0, 1, 3).flatten(2)
