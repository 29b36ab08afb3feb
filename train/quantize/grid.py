"""Rounded weights of a whole model: what is stored of each, and the values that stand for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from parallel.layers import Site, take_off
from train.transform.quantize import FakeQuantize
from train.transform.rounding import Scales
from train.transform.sites import sites


@dataclass(frozen=True)
class Rounded:
    """One weight. used: its values, of the weight's own shape. integers: of its matrix, with `scales` [rows, groups]; None
    where the values lie on no such grid.
    """

    used: torch.Tensor
    integers: torch.Tensor | None = None
    scales: Scales | None = None


def quantizers(model: torch.nn.Module) -> dict[str, tuple[Site, FakeQuantize]]:
    """The weights that are rounded, by their names in the whole model. Raises ValueError where something else than rounding is
    left in a chain: factors and masks are folded first.
    """
    found = {}
    for name, site in sites(model).items():
        chain = site.owner.chain(site.parameter)
        if chain is None:
            continue
        links = chain.links()
        rounding = links.get("quantize")
        if len(links) > 1 or not isinstance(rounding, FakeQuantize):
            raise ValueError(f"{name} has a chain of {', '.join(links)}: fold what comes before rounding")
        found[name] = (site, rounding)
    return found


@torch.no_grad()
def nearest(site: Site, rounding: FakeQuantize) -> Rounded:
    """The integers that fake quantization stands for."""
    integers, scales = rounding.stored(site.weight)
    return Rounded(rounding.restored(integers, scales), integers, scales)


def converted(model: torch.nn.Module) -> dict[str, Rounded]:
    """Makes every rounded weight what its integers say, and takes rounding off; by name, what is stored. The model computes
    what it computed before, but for the rounding of activations.
    """
    rounded = {name: nearest(site, rounding) for name, (site, rounding) in quantizers(model).items()}
    settle(model, rounded)
    return rounded


@torch.no_grad()
def settle(model: torch.nn.Module, rounded: Mapping[str, Rounded]) -> None:
    """Makes the rounded values the stored weights, and takes rounding off."""
    found = sites(model)
    for name, value in rounded.items():
        found[name].weight.copy_(value.used)
    take_off(model, ("quantize",))
