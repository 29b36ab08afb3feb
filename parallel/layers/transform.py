"""Weights that are not used as they are stored: each passes a chain of transforms on its way to the product.

    stored (or packed, QLoRA) -> low_rank (LoRA, DoRA) -> mask (pruning) -> quantize (rounding) -> used

A layer that can carry chains is `Transformable`; each weight of it is a `Site`, which says how the weight is split over ranks,
so that a transform is written once for linear layers, experts, convolutions and embeddings, and is the same function of the
whole weight in every layout. Without a chain a layer does what it did before.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from parallel.layers.activations import made_again

if TYPE_CHECKING:
    from parallel.layers.site import Site

ORDER = ("packed", "low_rank", "mask", "quantize")
TRANSFORMS = "transforms"  # the child of a layer that holds its chains, one for each weight that has any

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


def _sites_with_chains(module: torch.nn.Module) -> "list[Site]":
    owners = [found for found in module.modules() if isinstance(found, Transformable)]
    return [site for owner in owners for site in owner.sites() if owner.chain(site.parameter) is not None]
