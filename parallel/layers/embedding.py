"""The embedding of tokens, with a place for a chain of transforms."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import VocabParallelEmbedding, reduce_from_tensor_model_parallel_region

from parallel.layers.site import Site
from parallel.layers.transform import Transformable


class Embedding(Transformable, VocabParallelEmbedding):
    """megatron-core's embedding; each tensor rank holds a range of the vocabulary."""

    def sites(self) -> Iterator[Site]:
        """Its one table: a token is an input, so that tensor ranks share out the inputs."""
        yield Site(self, kind="embedding", split="inputs")

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        """int64 [B, L] -> [B, L, D]."""
        if self.chain() is None:
            return super().forward(input_)
        table, group = self.used(), self.tp_group
        if group.size() == 1:
            return F.embedding(input_, table)
        absent = (input_ < self.vocab_start_index) | (input_ >= self.vocab_end_index)
        rows = F.embedding((input_ - self.vocab_start_index).masked_fill(absent, 0), table)
        return reduce_from_tensor_model_parallel_region(
            rows.masked_fill(absent.unsqueeze(-1), 0.0), group=group
        )

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """megatron-core's entry, and those of the chain."""
        shards = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        return shards | self.transform_shards(prefix, sharded_offsets, metadata)
