"""Linear layers: split by output features, split by input features, or whole on every rank.

Thin over megatron-core's parallel layers: plain tensors in and out ([batch, length, features]) and the size
given once. A pair `RowLinear(ColumnLinear(x))` keeps the features between the two split, with one all-reduce
forward and one backward.

Overriding `_forward_impl`, the private method in which megatron-core multiplies, is where weight
transforms will go.
"""

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    copy_to_tensor_model_parallel_region,
)
from megatron.core.transformer.transformer_config import TransformerConfig


class ColumnLinear(ColumnParallelLinear):
    """y = x Wᵀ + b; each rank holds and computes its share of the output features."""

    def __init__(self, config: TransformerConfig, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, config=config, init_method=config.init_method, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, inputs] -> [B, L, outputs / tensor-parallel size]."""
        return super().forward(x)[0]


class RowLinear(RowParallelLinear):
    """y = x Wᵀ + b; each rank holds its share of the input features, and the partial products are summed
    over ranks.
    """

    def __init__(self, config: TransformerConfig, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(
            inputs,
            outputs,
            config=config,
            init_method=config.output_layer_init_method,
            bias=bias,
            input_is_parallel=True,
            skip_bias_add=False,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, inputs / tensor-parallel size] -> [B, L, outputs]."""
        return super().forward(x)[0]


class Linear(torch.nn.Linear):
    """y = x Wᵀ + b, whole on every rank."""

    def __init__(self, config: TransformerConfig, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias, dtype=config.params_dtype)


def splits(config: TransformerConfig, units: int) -> bool:
    """Whether `units` (attention heads, hidden features) are shared out over the tensor-parallel ranks; otherwise
    every rank computes all of them.

    Not where they do not divide, nor where `config` is of a part of the model that stays whole: there its tensor
    size is 1 whatever the grid's is.
    """
    ranks = parallel_state.get_tensor_model_parallel_world_size()
    return config.tensor_model_parallel_size == ranks and units % ranks == 0


def linear_pair(
    config: TransformerConfig, units: int
) -> tuple[type[ColumnLinear | Linear], type[RowLinear | Linear]]:
    """The kinds of the first and the second of two linear layers with `units` shared out between them, if they
    are (`splits`).
    """
    return (ColumnLinear, RowLinear) if splits(config, units) else (Linear, Linear)


def shared_by_heads(parameter: torch.Tensor) -> torch.Tensor:
    """A replicated parameter used by each rank for its own heads: the same values forward, gradients
    summed over ranks backward.
    """
    shared = copy_to_tensor_model_parallel_region(parameter)
    if shared.requires_grad:
        # megatron-core sums a copy of a gradient that is not contiguous, and returns what it got
        shared.register_hook(torch.Tensor.contiguous)
    return shared
