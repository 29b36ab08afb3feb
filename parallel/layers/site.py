"""One weight of a layer, as transforms see it: a matrix, with what of it the ranks share out.

A transform is written once for linear layers, experts, convolutions and embeddings; what differs between them, and between
layouts, is here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.transformer.mlp import apply_swiglu_sharded_factory
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint

from parallel.layers.transform import ORDER, TRANSFORMS, Chain, WeightTransform

Kind = Literal["linear", "experts", "convolution", "embedding"]
Axis = Literal["outputs", "inputs"]


@dataclass(frozen=True)
class Site:
    """One weight of a layer.

    parameter: its name in the layer. kind: of the layer. split: what tensor ranks share out of it; experts are shared out
    by expert instead. gated: its outputs are gate, then up, of SwiGLU, each shared out by itself. sequence: this rank's part
    of the positions is what the layer reads (sequence parallelism).
    """

    owner: Any
    parameter: str = "weight"
    kind: Kind = "linear"
    split: Axis | None = None
    gated: bool = False
    sequence: bool = False

    @property
    def weight(self) -> torch.nn.Parameter:
        """As it is stored."""
        return getattr(self.owner, self.parameter)

    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        """[outputs, inputs], or [experts, outputs, inputs]; of a convolution, its kernel's elements are inputs; of an embedding,
        a token is an input and a feature an output. A view.
        """
        if self.kind == "convolution":
            return weight.flatten(1)
        return weight.t() if self.kind == "embedding" else weight

    def like_weight(self, matrix: torch.Tensor) -> torch.Tensor:
        """The inverse of `matrix`."""
        if self.kind == "convolution":
            return matrix.view(self.weight.shape)
        return matrix.t() if self.kind == "embedding" else matrix

    @property
    def ranks(self) -> int:
        """Tensor ranks that hold other parts of this weight; 1 where it is whole here."""
        return parallel_state.get_tensor_model_parallel_world_size() if self.split else 1

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """Of `matrix`, over all ranks; the experts of all ranks."""
        *experts, outputs, inputs = self.matrix(self.weight).shape
        if self.kind == "experts":
            experts = [experts[0] * self.owner.expert_group.size()]
        outputs, inputs = (
            size * self.ranks if self.split == axis else size
            for axis, size in (("outputs", outputs), ("inputs", inputs))
        )
        return (*experts, outputs, inputs)

    def part(self, whole: torch.Tensor, axes: tuple[str, ...]) -> torch.Tensor:
        """This rank's part of a tensor that runs along `axes` of the whole weight, experts first where there are any."""
        if self.kind == "experts":
            group = self.owner.expert_group
            return whole.chunk(group.size(), 0)[group.rank()]
        if self.split not in axes or self.ranks == 1:
            return whole
        axis, rank = axes.index(self.split), parallel_state.get_tensor_model_parallel_rank()
        if self.gated and axis == 0:
            return torch.cat([half.chunk(self.ranks, 0)[rank] for half in whole.chunk(2, 0)])
        return whole.chunk(self.ranks, axis)[rank]

    @torch.no_grad()
    def sum_over_inputs(self, partial: torch.Tensor) -> torch.Tensor:
        """Completes, in place, what was summed over the inputs of this rank."""
        return self._over_inputs(partial, dist.ReduceOp.SUM)

    @torch.no_grad()
    def max_over_inputs(self, partial: torch.Tensor) -> torch.Tensor:
        """The same for a maximum."""
        return self._over_inputs(partial, dist.ReduceOp.MAX)

    def _over_inputs(self, partial: torch.Tensor, op: Any) -> torch.Tensor:
        if self.split == "inputs" and self.ranks > 1:
            dist.all_reduce(partial, op, parallel_state.get_tensor_model_parallel_group())
        return partial

    @torch.no_grad()
    def of_all_inputs(self, part: torch.Tensor) -> torch.Tensor:
        """[..., inputs] of all ranks, from [..., inputs of this rank]; `own_inputs` is the inverse."""
        if self.split != "inputs" or self.ranks == 1:
            return part
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.ranks)]
        dist.all_gather(parts, part.contiguous(), parallel_state.get_tensor_model_parallel_group())
        return torch.cat(parts, -1)

    def own_inputs(self, whole: torch.Tensor) -> torch.Tensor:
        """This rank's inputs of [..., inputs of all ranks]."""
        if self.split != "inputs" or self.ranks == 1:
            return whole
        return whole.chunk(self.ranks, -1)[parallel_state.get_tensor_model_parallel_rank()]

    def attach(self, name: str, transform: WeightTransform) -> None:
        """Puts a transform into the chain of this weight, at the place that its name has in `ORDER`."""
        for own, parameter in transform.named_parameters():
            self._mark(parameter, transform.axes[own])
        if TRANSFORMS not in self.owner._modules:
            self.owner.add_module(TRANSFORMS, torch.nn.ModuleDict())
        chains = self.owner._modules[TRANSFORMS]
        links = dict(chains[self.parameter].items()) if self.parameter in chains else {}
        links[name] = transform
        chains[self.parameter] = Chain({name: links[name] for name in ORDER if name in links})

    def _mark(self, parameter: torch.nn.Parameter, axes: tuple[str, ...]) -> None:
        """Who reduces the gradient, and who counts it in the norm: as the weight itself, where it is split as that is."""
        if self.kind == "experts":
            marks = {name: getattr(self.weight, name) for name in ("allreduce", "tensor_model_parallel")}
            marks |= {"partition_dim": 0, "partition_stride": 1}
        elif self.split in axes and self.ranks > 1:
            marks = {
                "tensor_model_parallel": True,
                "partition_dim": axes.index(self.split),
                "partition_stride": 1,
            }
        else:
            return
        for name, value in marks.items():
            setattr(parameter, name, value)

    def shards(
        self,
        prefix: str,
        transform: WeightTransform,
        sharded_offsets: tuple,
        metadata: dict[str, Any] | None,
    ) -> Iterator[tuple[str, Any]]:
        """Name and description of every tensor of `transform`, whose parts this rank holds as it holds the weight's."""
        for name, tensor in transform.state_dict(keep_vars=True).items():
            axes, key = transform.axes[name], prefix + name
            if self.kind == "experts":
                count = len(sharded_offsets)
                experts, replicas = self.owner.expert_group, self.owner.replica_group
                yield key, ShardedTensor.from_rank_offsets(
                    key, tensor, *sharded_offsets, (count, experts.rank(), experts.size()),
                    replica_id=(0, 0, replicas.rank()), prepend_axis_num=count,
                )  # fmt: skip
                continue
            split = {name: axes.index(self.split)} if self.split in axes else {}
            made = make_sharded_tensors_for_checkpoint(
                {name: tensor}, prefix, split, sharded_offsets,
                tp_group=parallel_state.get_tensor_model_parallel_group(),
                dp_cp_group=parallel_state.get_data_parallel_group(with_context_parallel=True),
            )  # fmt: skip
            shard = made[key]
            if self.gated and axes[:1] == ("outputs",):
                shard = apply_swiglu_sharded_factory(shard, sharded_offsets)
            yield key, shard
