"""Weights that are not used as they are stored: each passes a chain of transforms on its way to the product.

    stored (or packed, QLoRA) -> low_rank (LoRA, DoRA) -> mask (pruning) -> quantize (rounding) -> used

A layer that can carry chains is `Transformable`; each weight of it is a `Site`, which says how the weight is split over ranks,
so that a transform is written once for linear layers, experts, convolutions and embeddings, and is the same function of the
whole weight in every layout. Without a chain a layer does what it did before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.transformer.mlp import apply_swiglu_sharded_factory
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint

from parallel.layers.activations import made_again

ORDER = ("packed", "low_rank", "mask", "quantize")
TRANSFORMS = "transforms"  # the child of a layer that holds its chains, one for each weight that has any

Kind = Literal["linear", "experts", "convolution", "embedding"]
Axis = Literal["outputs", "inputs"]
Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class WeightTransform(torch.nn.Module):
    """A function from a stored weight to the weight that is used, with parameters of its own or none."""

    axes: dict[
        str, tuple[str, ...]
    ]  # what the axes of each own parameter and buffer run along: "outputs", "inputs", ""
    looks_at_inputs = False  # whether `inputs` does something

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The used weight, of the same shape."""
        raise NotImplementedError

    def inputs(self, x: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """What the weight is multiplied with, [..., inputs of this rank]; as it is, unless a transform rounds it. Rows of
        experts come expert after expert, `counts` [experts] of them.
        """
        return x

    def weights_changed(self) -> None:
        """Drops what was computed from weights that train, and held; the engine calls it after every update."""

    def weights_replaced(self) -> None:
        """Drops what was computed from any weights, frozen ones too: after a load."""
        self.weights_changed()


class Chain(torch.nn.ModuleDict):
    """The transforms of one weight, by name, in the order in which they work."""

    def links(self) -> dict[str, WeightTransform]:
        """The same, as what they are."""
        return dict(self.items())  # type: ignore[arg-type]

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The used weight."""
        for transform in self.values():
            weight = transform(weight)
        return weight

    @property
    def looks_at_inputs(self) -> bool:
        """Whether a transform asks for what the weight is multiplied with."""
        return any(transform.looks_at_inputs for transform in self.links().values())

    def inputs(self, x: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """What the used weight is multiplied with."""
        for transform in self.links().values():
            x = transform.inputs(x, counts)
        return x

    def product(self, weight: torch.Tensor, x: torch.Tensor, multiply: Multiply) -> torch.Tensor:
        """multiply(x, used weight); a transform that stands alone and can do without forming that weight does so."""
        x, links = self.inputs(x), self.links()
        if (packed := links.pop("packed", None)) is None:
            return _product(list(links.values()), weight, x, multiply)
        whole = packed(weight)
        with made_again(whole, lambda: packed(weight), self):
            return _product(list(links.values()), whole, x, multiply)


def _product(
    links: list[WeightTransform], weight: torch.Tensor, x: torch.Tensor, multiply: Multiply
) -> torch.Tensor:
    if len(links) == 1 and hasattr(links[0], "product"):
        return links[0](weight, x, multiply)
    for transform in links:
        weight = transform(weight)
    return multiply(x, weight)


class Transformable:
    """A layer whose weights may carry chains; mixed into a module class, before it."""

    def sites(self) -> Iterator["Site"]:
        """Its weights."""
        raise NotImplementedError

    def chain(self, parameter: str = "weight") -> Chain | None:
        """The chain of a weight, None where it is used as it is stored."""
        chains = self._modules.get(TRANSFORMS)  # type: ignore[attr-defined]
        return chains[parameter] if chains is not None and parameter in chains else None

    def used(self, parameter: str = "weight") -> torch.Tensor:
        """A weight as the product takes it."""
        chain, weight = self.chain(parameter), getattr(self, parameter)
        return weight if chain is None else chain(weight)

    def transform_shards(
        self, prefix: str, sharded_offsets: tuple, metadata: dict[str, Any] | None
    ) -> dict[str, Any]:
        """How the tensors of all chains are split over ranks, for `sharded_state_dict`."""
        return {
            name: shard
            for site in self.sites()
            if (chain := self.chain(site.parameter)) is not None
            for kind, transform in chain.links().items()
            for name, shard in site.shards(
                f"{prefix}{TRANSFORMS}.{site.parameter}.{kind}.", transform, sharded_offsets, metadata
            )
        }


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


def transforms_in(module: torch.nn.Module) -> list[WeightTransform]:
    """Every transform of every chain below `module`."""
    return [found for found in module.modules() if isinstance(found, WeightTransform)]


@torch.no_grad()
def fold(module: torch.nn.Module, kinds: tuple[str, ...] = ORDER) -> None:
    """Makes the used weights the stored ones and takes the transforms off; of `kinds` alone, which must come first in each
    chain. For modules without an engine.
    """
    for site in _sites_with_chains(module):
        chain = site.owner.chain(site.parameter)
        found = [name for name in chain if name in kinds]
        if list(chain)[: len(found)] != found:
            raise ValueError(f"a chain of {', '.join(chain)} cannot lose {', '.join(kinds)} alone")
        for name in found:
            site.weight.copy_(chain[name](site.weight))
    take_off(module, kinds)


def take_off(module: torch.nn.Module, kinds: tuple[str, ...] = ORDER) -> None:
    """Leaves the transforms of `kinds` out of every chain; stored weights stay as they are."""
    for site in _sites_with_chains(module):
        chains = site.owner._modules[TRANSFORMS]
        rest = {name: link for name, link in chains[site.parameter].items() if name not in kinds}
        if rest:
            chains[site.parameter] = Chain(rest)
            continue
        del chains[site.parameter]
        if not len(chains):
            del site.owner._modules[TRANSFORMS]


def _sites_with_chains(module: torch.nn.Module) -> list[Site]:
    owners = [found for found in module.modules() if isinstance(found, Transformable)]
    return [site for owner in owners for site in owner.sites() if owner.chain(site.parameter) is not None]
