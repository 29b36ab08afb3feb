"""Two matrices of a low rank in the place of one: y = wide (narrow x), with rank x (inputs + outputs) numbers.

Split over tensor ranks as the one matrix was: a layer that is split by outputs has `wide` split and `narrow` whole, one that is
split by inputs the other way round; what ranks exchange is then `rank` features a position, fewer than before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core.transformer.mlp import apply_swiglu_sharded_factory
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers.linear import Linear, TransformableColumn, TransformableRow
from parallel.layers.module import Module
from parallel.layers.site import Site


@dataclass
class FactoredConfig(TransformerConfig):
    """megatron-core's description of a decoder, and the ranks of its factored matrices; 0 for whole ones."""

    attention_rank: int = 0
    ffn_rank: int = 0


class WholeFactor(Linear):
    """The factor that no ranks share out. Under sequence parallelism each of them sees other positions, and has a part of its
    gradient.
    """

    def __init__(self, config: TransformerConfig, inputs: int, outputs: int) -> None:
        super().__init__(config, inputs, outputs, bias=False)
        self.by_position = config.sequence_parallel
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def sites(self) -> Iterator[Site]:
        """Its one weight."""
        yield Site(self, sequence=self.by_position)


class FactoredColumn(Module):
    """In the place of megatron-core's layer that is split by output features."""

    def __init__(self, inputs: int, outputs: int, *, config: TransformerConfig, **options: Any) -> None:
        super().__init__(config)
        rank = _rank(config, options["tp_comm_buffer_name"])
        self.narrow = WholeFactor(config, inputs, rank)
        self.wide = TransformableColumn(rank, outputs, config=config, **options)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[L, B, inputs] (this rank's positions under sequence parallelism) -> [L, B, outputs of this rank], no bias."""
        return self.wide(self.narrow(x))

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Both factors'; gate and up are each shared out by themselves, as megatron-core does for a matrix that is whole."""
        shards = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        if self.wide.gated:
            key = f"{prefix}wide.weight"
            shards[key] = apply_swiglu_sharded_factory(shards[key], sharded_offsets)
        return shards


class FactoredRow(Module):
    """In the place of megatron-core's layer that is split by input features."""

    def __init__(self, inputs: int, outputs: int, *, config: TransformerConfig, **options: Any) -> None:
        super().__init__(config)
        rank = _rank(config, options["tp_comm_buffer_name"])
        self.narrow = TransformableRow(inputs, rank, config=config, **options)
        self.wide = WholeFactor(config, rank, outputs)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        """[L, B, inputs of this rank] -> [L, B, outputs] (this rank's positions under sequence parallelism), no bias."""
        return self.wide(self.narrow(x)[0]), None


def _rank(config: TransformerConfig, place: str) -> int:
    """place: megatron-core's name for it, "qkv", "proj", "fc1" or "fc2"."""
    assert isinstance(config, FactoredConfig)
    return config.attention_rank if place in ("qkv", "proj") else config.ffn_rank
