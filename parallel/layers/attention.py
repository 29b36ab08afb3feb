"""Attention by torch's scaled_dot_product_attention: no L x L matrix is kept for the backward pass.

Shapes: B batch, L length, D width, N heads of this rank, H head width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers.linear import linear_pair, splits
from parallel.layers.module import Module

Bias = Callable[[torch.Tensor], torch.Tensor]


class Attention(Module):
    """Self-attention of the encoder: every position sees every position of its sequence.

    The rows of `qkv` are ordered head by head, [N, (query, key, value), H], as in megatron-core's decoder:
    a contiguous share of rows is a share of heads. Heads that do not divide over the tensor-parallel ranks
    are computed whole on each of them.
    """

    def __init__(self, config: TransformerConfig, width: int, heads: int) -> None:
        super().__init__(config)
        self.split = splits(config, heads)
        self.head_width = width // heads
        first, second = linear_pair(config, heads)
        self.qkv = first(config, width, 3 * width)
        self.proj = second(config, width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, D] -> [B, L, D]."""
        return self.attend(x)

    def attend(self, x_BLD: torch.Tensor, bias: Bias | None = None) -> torch.Tensor:
        """`forward` with a `bias`: from the unscaled queries [B, N, L, H], what is added to the scores [B,
        N, L, L].
        """
        batch, length, _ = x_BLD.shape
        qkv = self.qkv(x_BLD).view(batch, length, -1, 3, self.head_width)
        q_BNLH, k_BNLH, v_BNLH = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        scores = None if bias is None else bias(q_BNLH)
        out = F.scaled_dot_product_attention(q_BNLH, k_BNLH, v_BNLH, attn_mask=scores)
        return self.proj(out.transpose(1, 2).reshape(batch, length, -1))


class CausalAttentionCore(torch.nn.Module):
    """The decoder's core attention, in the interface of megatron-core's DotProductAttention.

    Handles what the decoder uses: causal attention, and a query that sees all cached keys. Padding needs
    no mask because it stands at the end of a row, where no valid position looks. Raises ValueError for
    dropout or context parallelism in the configuration.
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
        super().__init__()
        if config.context_parallel_size != 1 or config.attention_dropout:
            raise ValueError("this attention core has no dropout and no context parallelism")
        self.mask_type, self.scale = attn_mask_type, softmax_scale

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
        """[L, B, N, H] each (key and value may be longer) -> [L, B, N * H]."""
        q_BNLH, k_BNLH, v_BNLH = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        causal = (attn_mask_type or self.mask_type) == AttnMaskType.causal
        grouped = q_BNLH.shape[1] != k_BNLH.shape[1]
        out = F.scaled_dot_product_attention(
            q_BNLH, k_BNLH, v_BNLH, is_causal=causal, scale=self.scale, enable_gqa=grouped
        )
        return out.permute(2, 0, 1, 3).flatten(2)
