"""The layers models are made of, under plain names; tensor, sequence and expert parallelism are inside them.

`Module` and `ModuleList` are the containers; a plain `torch.nn` container would hide its children's
tensor-parallel shards from `sharded_state_dict()`.
"""

from parallel.layers.activations import made_again
from parallel.layers.attention import Attention, CausalAttentionCore
from parallel.layers.convolution import Convolution
from parallel.layers.divergence import Divergence, Predictions, TeacherRows, Teaching
from parallel.layers.embedding import Embedding
from parallel.layers.experts import Experts
from parallel.layers.factored import FactoredConfig
from parallel.layers.linear import (
    ColumnLinear,
    Linear,
    RowLinear,
    linear_pair,
    splits,
)
from parallel.layers.module import Chunks, Module, ModuleList, chunks_of
from parallel.layers.norm import LayerNorm, Norm
from parallel.layers.output import NO_LABEL, Asked, Labelled, OutputLayer
from parallel.layers.recompute import Stacks, recomputed
from parallel.layers.router import Router, sequence_balance_loss
from parallel.layers.shared import shared_by_ranks
from parallel.layers.site import Site
from parallel.layers.spec import decoder_spec
from parallel.layers.transform import (
    Chain,
    Transformable,
    WeightTransform,
    fold,
    take_off,
    transforms_in,
)

__all__ = [
    "NO_LABEL",
    "Asked",
    "Attention",
    "CausalAttentionCore",
    "Chain",
    "Chunks",
    "ColumnLinear",
    "Convolution",
    "Divergence",
    "Embedding",
    "Experts",
    "FactoredConfig",
    "Labelled",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "Norm",
    "OutputLayer",
    "Predictions",
    "Router",
    "RowLinear",
    "Site",
    "Stacks",
    "TeacherRows",
    "Teaching",
    "Transformable",
    "WeightTransform",
    "chunks_of",
    "decoder_spec",
    "fold",
    "linear_pair",
    "made_again",
    "recomputed",
    "sequence_balance_loss",
    "shared_by_ranks",
    "splits",
    "take_off",
    "transforms_in",
]
