"""Activations that are computed again in backward instead of being kept."""

from collections.abc import Callable

import torch
from megatron.core.tensor_parallel import checkpoint

from parallel.layers.module import Module


def recomputed(
    granularity: str, module: Module, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """`function(x)`. Where `module.config.recompute_granularity` is `granularity`, only x is kept until backward.

    module: owner of the parameters that `function` uses. The backward runs one of its own inside torch's, the
    kind that also works when ZeRO-3 has taken the weights away in between; so parameters get gradients only if
    x takes part in backward, which is seen to here.
    """
    if module.config.recompute_granularity != granularity or not torch.is_grad_enabled():
        return function(x)
    if not x.requires_grad:
        x = x.detach().requires_grad_(any(parameter.requires_grad for parameter in module.parameters()))
    return checkpoint(function, False, x)
