"""Stand-ins for what tensors without values cannot do, so that the real modules run on the meta device.

Routing is data: here every expert gets equally many tokens, and the counts that ranks tell each other are this rank's own.
Two kernels have no meta version of what real devices run: fused attention, and grouped products in fp32.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer.moe import token_dispatcher
from torch import Tensor

from parallel.layers import Router

_attention = F.scaled_dot_product_attention
_gather = token_dispatcher.gather_from_sequence_parallel_region
_route = Router.forward


@contextmanager
def stand_ins(fused_bias: bool) -> Iterator[None]:
    """Puts them in place. fused_bias: see DeviceConfig."""

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        options.pop("enable_gqa", None)
        causal, scale = options.get("is_causal", False), options.get("scale")
        if attn_mask is None:
            fused = torch.ops.aten._scaled_dot_product_flash_attention
            return fused(query, key, value, 0.0, causal, scale=scale)[0]
        if attn_mask.requires_grad and not fused_bias:
            return _attention(query, key, value, attn_mask=attn_mask, **options)
        fused = torch.ops.aten._scaled_dot_product_efficient_attention
        return fused(query, key, value, attn_mask, True, 0.0, causal, scale=scale)[0]

    with ExitStack() as stack:
        for owner, name, value in (
            (F, "scaled_dot_product_attention", attention),
            (F, "grouped_mm", _grouped_product),
            (torch.cuda, "current_device", lambda: "meta"),  # where megatron-core allocates its buffers
            (token_dispatcher, "gather_from_sequence_parallel_region", _gather_counts),
            (Router, "forward", _route_evenly),
        ):
            stack.enter_context(_replaced(owner, name, value))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _grouped_product(tokens: Tensor, matrices: Tensor, offs: Tensor | None = None) -> Tensor:
    """[T, K] x [E, K, N] -> [T, N], or [K, T] x [T, N] -> [E, K, N], the gradient of the matrices: as many operations, and as
    much kept, as when each expert takes its share.
    """
    if matrices.dim() == 3:
        return tokens @ matrices[0]
    assert offs is not None
    product = tokens @ matrices
    return product.new_empty(len(offs), *product.shape)


def _route_evenly(router: Router, x_LBD: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The real weights, and a choice with values: token after token, each takes the next `topk` experts."""
    weights, chosen = _route(router, x_LBD, padding_mask)
    tokens, experts = chosen.shape
    first = torch.arange(tokens)[:, None] * router.topk
    even = torch.zeros(tokens, experts, dtype=torch.bool)
    return weights, even.scatter_(1, (first + torch.arange(router.topk)) % experts, True)


def _gather_counts(value: Tensor, *arguments: Any, group: Any = None, **options: Any) -> Tensor:
    """Counts have values and stay this rank's; what has none goes the real way."""
    if value.device.type == "cpu":
        return value.repeat(group.size())
    return _gather(value, *arguments, group=group, **options)
