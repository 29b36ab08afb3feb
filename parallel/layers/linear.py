"""Linear layers: split by output features, split by input features, or whole on every rank.

Thin over megatron-core's parallel layers: plain tensors in and out ([batch, length, features]) and the size
given once. A pair `RowLinear(ColumnLinear(x))` keeps the features between the two split, with one all-reduce
forward and one backward.

`_forward_impl`, the private method in which megatron-core multiplies, is where the chain of transforms stands
between a stored weight and the product (`parallel.layers.transform`); a test fails if an update takes it away.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers.site import Site
from parallel.layers.transform import Transformable


class TransformableParallel(Transformable):
    """What megatron-core's two parallel linear layers have in common where a chain is concerned."""

    def _forward_impl(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, **options: Any
    ) -> torch.Tensor:
        multiply = super()._forward_impl  # type: ignore[misc]
        chain = self.chain()
        if chain is None:
            # megatron-core's product with a frozen weight gives no gradient to its bias: None, without a word.
            apart = bias is not None and bias.requires_grad and not weight.requires_grad
            product = multiply(input=input, weight=weight, bias=None if apart else bias, **options)
            return product + bias if apart else product

        def times(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
            return multiply(input=x, weight=matrix, bias=None, **options)

        product = chain.product(weight, input, times)
        return product if bias is None else product + bias

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """megatron-core's entries, and those of the chain."""
        shards = super().sharded_state_dict(prefix, sharded_offsets, metadata)  # type: ignore[misc]
        return shards | self.transform_shards(prefix, sharded_offsets, metadata)


class TransformableColumn(TransformableParallel, ColumnParallelLinear):
    """megatron-core's layer that is split by output features, with a place for a chain."""

    gated = False

    def __init__(self, *args: Any, tp_comm_buffer_name: str | None = None, **options: Any) -> None:
        super().__init__(*args, tp_comm_buffer_name=tp_comm_buffer_name, **options)
        # The first layer of megatron-core's feed-forward; its outputs are gate and up.
        self.gated = tp_comm_buffer_name == "fc1" and self.config.gated_linear_unit

    def sites(self) -> Iterator[Site]:
        """Its one weight."""
        yield Site(self, split="outputs", gated=self.gated, sequence=self.sequence_parallel)


class TransformableRow(TransformableParallel, RowParallelLinear):
    """megatron-core's layer that is split by input features, with a place for a chain."""

    def sites(self) -> Iterator[Site]:
        """Its one weight."""
        yield Site(self, split="inputs")


class ColumnLinear(TransformableColumn):
    """y = x Wᵀ + b; each rank holds and computes its share of the output features."""

    def __init__(self, config: TransformerConfig, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, config=config, init_method=config.init_method, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, inputs] -> [B, L, outputs / tensor-parallel size]."""
        return super().forward(x)[0]


class RowLinear(TransformableRow):
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


class Linear(Transformable, torch.nn.Linear):
    """y = x Wᵀ + b, whole on every rank."""

    def __init__(self, config: TransformerConfig, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias, dtype=config.params_dtype)

    def sites(self) -> Iterator[Site]:
        """Its one weight."""
        yield Site(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs]."""
        chain = self.chain()
        if chain is None:
            return F.linear(x, self.weight, self.bias)
        product = chain.product(self.weight, x, F.linear)
        return product if self.bias is None else product + self.bias


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
