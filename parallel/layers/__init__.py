"""The layers models are made of, under plain names; tensor, sequence and expert parallelism are inside them.

`Module` and `ModuleList` are the containers; a plain `torch.nn` container would hide its children's
tensor-parallel shards from `sharded_state_dict()`.
"""

from parallel.layers.activations import made_again
from parallel.layers.attention import Attention, CausalAttentionCore
from parallel.layers.experts import Experts
from parallel.layers.linear import (
    ColumnLinear,
    Linear,
    RowLinear,
    linear_pair,
    shared_by_heads,
    splits,
)
from parallel.layers.module import Chunks, Module, ModuleList
from parallel.layers.norm import LayerNorm, Norm
from parallel.layers.output import NO_LABEL, OutputLayer
from parallel.layers.recompute import Stacks, recomputed
from parallel.layers.router import Router, sequence_balance_loss
from parallel.layers.spec import decoder_spec

__all__ = [
    "NO_LABEL",
    "Attention",
    "CausalAttentionCore",
    "Chunks",
    "ColumnLinear",
    "Experts",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "Norm",
    "OutputLayer",
    "Router",
    "RowLinear",
    "Stacks",
    "decoder_spec",
    "linear_pair",
    "made_again",
    "recomputed",
    "sequence_balance_loss",
    "shared_by_heads",
    "splits",
]
