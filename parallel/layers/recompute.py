"""Activations that are computed again in backward instead of being kept."""

from collections.abc import Callable, Sequence

import torch
from megatron.core.tensor_parallel import checkpoint

from parallel.layers.module import Module

Stacks = Sequence[torch.Tensor]


def recomputed(
    granularity: str, module: Module, function: Callable[[Stacks], Stacks], stacks: Stacks
) -> Stacks:
    """`function(stacks)`. Where `module.config.recompute_granularity` is `granularity`, only its input is kept until
    backward.

    module: owner of the parameters that `function` uses. The backward runs one of its own inside torch's, the
    kind that also works when ZeRO-3 has taken the weights away in between; so parameters get gradients only if
    the input takes part in backward, which is seen to here. All tensors go through together: ZeRO-3 takes a
    parameter's gradient for complete at the end of such a backward, so each parameter may be in one only.
    """
    if module.config.recompute_granularity != granularity or not torch.is_grad_enabled():
        return function(stacks)
    if not any(stack.requires_grad for stack in stacks):
        trains = any(parameter.requires_grad for parameter in module.parameters())
        stacks = [stack.detach().requires_grad_(trains) for stack in stacks]
    return checkpoint(lambda *together: tuple(function(together)), False, *stacks)
