"""Learned keys and values that every position sees in every layer, as if they stood before its sample.

Two ways to learn them: as they are (P-Tuning v2, arXiv 2110.07602), or as what a small network makes of a table (prefix
tuning, arXiv 2101.00190), which trains more steadily where P is small. The paper's network is one for all layers; here each
layer has its own, because the stages of a pipeline share nothing.

Shapes: P positions of the prefix, N heads of this rank, H head width, D decoder width.
"""

import copy
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import set_tensor_model_parallel_attributes
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint

from parallel.layers import Linear, Module, linear_pair


class Prefix(Module):
    """Keys and values of one layer, [N, P, H] each; tensor ranks share out the heads."""

    def __init__(self, config: TransformerConfig, tokens: int) -> None:
        super().__init__(config)
        heads = config.num_query_groups // config.tensor_model_parallel_size
        shape, dtype = (heads, tokens, config.kv_channels), config.params_dtype
        self.keys = torch.nn.Parameter(torch.empty(shape, dtype=dtype))
        self.values = torch.nn.Parameter(torch.empty(shape, dtype=dtype))
        if config.tensor_model_parallel_size > 1:
            for parameter in (self.keys, self.values):
                set_tensor_model_parallel_attributes(parameter, is_parallel=True, dim=0, stride=1)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """[P, 1, N, H] each."""
        return self.keys.transpose(0, 1).unsqueeze(1), self.values.transpose(0, 1).unsqueeze(1)

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Both, shared out by heads."""
        return make_sharded_tensors_for_checkpoint(
            self.state_dict(keep_vars=True), prefix, {"keys": 0, "values": 0}, sharded_offsets,
            tp_group=parallel_state.get_tensor_model_parallel_group(),
            dp_cp_group=parallel_state.get_data_parallel_group(with_context_parallel=True),
        )  # fmt: skip


class EncodedPrefix(Module):
    """Keys and values of one layer as a network of one hidden layer makes them of a table [P, D]."""

    def __init__(self, config: TransformerConfig, tokens: int, width: int) -> None:
        super().__init__(config)
        whole = copy.copy(config)  # every tensor rank has all rows of the table
        whole.sequence_parallel = False
        heads, self.head_width = config.num_query_groups, config.kv_channels
        self.table = torch.nn.Parameter(torch.empty(tokens, config.hidden_size, dtype=config.params_dtype))
        self.hidden = Linear(whole, config.hidden_size, width)
        split, _ = linear_pair(whole, heads)
        # Outputs head by head, [N, (key, value), H]: a share of them is a share of the heads.
        self.out = split(whole, width, heads * 2 * self.head_width)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """[P, 1, N, H] each."""
        both = self.out(torch.tanh(self.hidden(self.table.unsqueeze(1))))
        keys, values = both.unflatten(-1, (-1, 2, self.head_width)).unbind(-2)
        return keys, values


def prefix_of(core: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The learned keys and values of a core attention, [N, P, H] each."""
    if core.prefix is None:
        return None
    keys, values = (part.detach().squeeze(1).transpose(0, 1) for part in core.prefix())
    return keys, values
