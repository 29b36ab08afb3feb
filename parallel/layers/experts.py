"""The experts of one rank as two grouped matrix products: no loop over experts, no Transformer Engine, no
grouped_gemm package.

Shapes: E local experts, F expert features, D width, T tokens routed to this rank (sorted by expert).
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers.activations import swiglu, swiglu_gradients
from parallel.layers.products import Groups
from parallel.layers.site import Site
from parallel.layers.transform import Transformable


class Experts(Transformable, MegatronModule):
    """SwiGLU experts, in the interface of megatron-core's SequentialMLP. Split by expert, never by tensor.

    An expert that no token chose has a zero gradient, not a missing one: all experts of a rank are one
    parameter.

    `allreduce` on a parameter says who reduces its gradient: False means the ranks that hold the same
    experts and see other tokens (megatron-core's expert-data-parallel group) instead of the data-parallel
    group. It is False as soon as the two groups differ: with expert parallelism, and with tensor
    parallelism, where sequence parallelism gives each tensor rank other tokens. With neither, experts are
    ordinary parameters, which DeepSpeed reduces at any ZeRO stage.
    """

    def __init__(
        self,
        num_local_experts: int,
        config: TransformerConfig,
        submodules: object | None = None,
        pg_collection: ProcessGroupCollection | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config)
        if pg_collection is None or pg_collection.expt_tp.size() != 1:
            raise ValueError("experts are split by expert, not by tensor: set expert_tensor_parallel_size=1")
        self.expert_group, self.replica_group = pg_collection.ep, pg_collection.expt_dp
        experts, width, features = num_local_experts, config.hidden_size, config.moe_ffn_hidden_size
        self.fc1 = torch.nn.Parameter(
            torch.empty(experts, 2 * features, width, dtype=config.params_dtype)
        )  # gate, then up
        self.fc2 = torch.nn.Parameter(torch.empty(experts, width, features, dtype=config.params_dtype))
        own_group = config.expert_model_parallel_size > 1 or config.tensor_model_parallel_size > 1
        for parameter in (self.fc1, self.fc2):
            parameter.allreduce = not own_group  # type: ignore[attr-defined]
            # Other experts on every rank: the gradient norm must count them on every rank.
            parameter.tensor_model_parallel = own_group  # type: ignore[attr-defined]
            parameter.partition_dim, parameter.partition_stride = 0, 1  # type: ignore[attr-defined]

    def forward(
        self,
        hidden: torch.Tensor,
        tokens_per_expert: torch.Tensor,
        probs: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Rows sorted by expert, tokens_per_expert [E] of them, with routing weights probs [R] -> (weighted, no bias).

        hidden: the rows, [R, D], and the result is as many; or with `places` [R], the tokens [T, D], of which row r is
        number places[r], and the result is the sum of each token's rows, [T, D].
        """
        groups = Groups(tokens_per_expert.to(hidden.device))
        if places is None:
            places = torch.arange(hidden.shape[0], device=hidden.device)
        if any(chain is not None and chain.looks_at_inputs for chain in map(self.chain, ("fc1", "fc2"))):
            return self._step_by_step(hidden, probs, groups, places), None
        return _SwiGLUExperts.apply(hidden, probs, self.used("fc1"), self.used("fc2"), groups, places), None

    def _step_by_step(
        self, hidden_TD: torch.Tensor, probs_R: torch.Tensor, groups: Groups, places_R: torch.Tensor
    ) -> torch.Tensor:
        """The same for chains that look at what the weights multiply, or round it."""
        inner = self._product("fc1", hidden_TD.index_select(0, places_R), groups)
        gate, up = inner.chunk(2, -1)
        active = (F.silu(gate) * up * probs_R.unsqueeze(-1)).to(inner.dtype)
        return torch.zeros_like(hidden_TD).index_add(0, places_R, self._product("fc2", active, groups))

    def _product(self, parameter: str, rows: torch.Tensor, groups: Groups) -> torch.Tensor:
        chain = self.chain(parameter)
        if chain is not None:
            rows = chain.inputs(rows, groups.sizes)
        return _Grouped.apply(rows, self.used(parameter), groups)

    def sites(self) -> Iterator[Site]:
        """Its two stacks of weights."""
        yield Site(self, "fc1", kind="experts", gated=True)
        yield Site(self, "fc2", kind="experts")

    def backward_dw(self) -> None:
        """Weight gradients are never delayed here; megatron-core's schedules ask."""

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """SequentialMLP's keys: one global tensor [all experts, ...] for each matrix, this rank holding a
        range of experts.
        """
        axis = len(sharded_offsets)
        share = (axis, self.expert_group.rank(), self.expert_group.size())
        weights = {
            f"{prefix}{name}": ShardedTensor.from_rank_offsets(
                f"{prefix}experts.linear_{name}.weight",
                getattr(self, name),
                *sharded_offsets,
                share,
                replica_id=(0, 0, self.replica_group.rank()),
                prepend_axis_num=axis,
            )
            for name in ("fc1", "fc2")
            if name in self._parameters  # not packed
        }
        return weights | self.transform_shards(prefix, sharded_offsets, metadata)


class _Grouped(torch.autograd.Function):
    """Each expert's rows times its matrix, transposed."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, matrices: torch.Tensor, groups: Groups) -> torch.Tensor:
        ctx.save_for_backward(rows, matrices)
        ctx.groups = groups
        return groups.times(rows, matrices.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        rows, matrices = ctx.saved_tensors
        gradient = gradient.contiguous()
        g_rows = ctx.groups.times(gradient, matrices) if ctx.needs_input_grad[0] else None
        g_matrices = ctx.groups.outer(gradient, rows) if ctx.needs_input_grad[1] else None
        return g_rows, g_matrices, None


class _SwiGLUExperts(torch.autograd.Function):
    """fc2(silu(gate) * up * weight) with gate and up of fc1, for each row by its expert. What it keeps of a row is the
    result of fc1; the rest is made again in backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: torch.Tensor,
        probs_R: torch.Tensor,
        fc1: torch.Tensor,
        fc2: torch.Tensor,
        groups: Groups,
        places_R: torch.Tensor,
    ) -> torch.Tensor:
        inner = groups.times(hidden_TD.index_select(0, places_R), fc1.transpose(1, 2))
        active = swiglu(inner).mul_(probs_R.unsqueeze(-1))
        out = groups.times(active, fc2.transpose(1, 2))
        ctx.save_for_backward(hidden_TD, probs_R, fc1, fc2, inner, places_R)
        ctx.groups = groups
        return torch.zeros_like(hidden_TD).index_add_(0, places_R, out)

    @staticmethod
    def backward(ctx: Any, gradient_TD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        hidden_TD, probs_R, fc1, fc2, inner, places_R = ctx.saved_tensors
        groups, weights = ctx.groups, probs_R.unsqueeze(-1)
        rows = gradient_TD.index_select(0, places_R)
        active = swiglu(inner)
        g_active = groups.times(rows, fc2)
        g_probs = (g_active * active).sum(-1).to(probs_R.dtype)
        g_fc2 = groups.outer(rows, active.mul_(weights)) if ctx.needs_input_grad[3] else None
        g_inner = swiglu_gradients(inner, g_active.mul_(weights))
        g_fc1 = groups.outer(g_inner, hidden_TD.index_select(0, places_R)) if ctx.needs_input_grad[2] else None
        g_hidden = None
        if ctx.needs_input_grad[0]:
            g_hidden = torch.zeros_like(hidden_TD).index_add_(0, places_R, groups.times(g_inner, fc1))
        return g_hidden, g_probs, g_fc1, g_fc2, None, None
