"""Growth: a larger model that computes what the smaller one did, for training to go on with.

Heads, hidden features and experts are duplicated, and what reads the copies shares out its weights over them (Net2Net, arXiv
1511.05641). New features of the decoder's width are written zero at first; the norms lose the strength that the mean of squares
over more features would add. New layers add zero to what they read at first, copies of the layers before them but for that
(LLaMA Pro, arXiv 2401.02415); or with "stack" they are the old ones over again (G_stack, arXiv 2405.15319), which changes the
function and learns fastest where training is long. Copies that are exactly alike stay alike: `noise` parts them.
"""

import zlib
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from train.config import ModelConfig
from train.model.initialise import RESIDUAL, deviation
from train.surgery.prune import PREFIXES, counts, renumbered, taken, with_layers
from train.surgery.sizes import grown, size_of
from train.surgery.units import Axis, Units, Weights, units_of, width_of

ADDED = (
    *RESIDUAL,
    "attn.proj.bias",
    "lin2.bias",
    ".fc2.bias",
)  # the last of each branch: what it adds is zero without them


@dataclass(frozen=True)
class Growth:
    """How growth is done: `SurgeryConfig.new_layers`, `.noise` and `.seed`."""

    new_layers: str = "identity"
    noise: float = 0.0
    seed: int = 0

    def shaken(self, key: str, tensor: Tensor, axis: Axis, first: int) -> Tensor:
        """With noise on the units from number `first` on, in proportion to the root mean square of the tensor."""
        if not self.noise:
            return tensor
        parts = tensor.unflatten(axis.axis, (axis.outer, -1, axis.inner)).clone()
        new = parts.narrow(axis.axis + 1, first, parts.shape[axis.axis + 1] - first)
        spread = self.noise * tensor.double().square().mean().sqrt().item()
        new += self.normal(key, tuple(new.shape), spread).to(new.dtype)
        return parts.flatten(axis.axis, axis.axis + 2)

    def normal(self, key: str, shape: tuple[int, ...], spread: float) -> Tensor:
        """Random values, the same for the same key and seed."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {key}".encode()))
        return torch.empty(shape).normal_(0.0, spread, generator=generator)


def grow(
    weights: Weights, model: ModelConfig, sizes: object, growth: Growth
) -> tuple[dict[str, Tensor], ModelConfig]:
    """The weights and the model after `sizes` (SizesConfig) of `grow.`; the rest of `model` is as it was.

    Raises ConfigError for a size that is smaller than it was.
    """
    after = grown(model, sizes)  # type: ignore[arg-type]
    found = dict(weights)
    there = counts(model)
    for kind, count in counts(after).items():
        if count > there[kind]:
            for units in units_of(model, kind).values():
                # A token that chose an expert chooses its copies, too, each with its share of the weight.
                duplicate(found, units, there[kind], count, growth, share=kind != "experts")
    if after.decoder.width > model.decoder.width:
        widen(found, after.decoder.width - model.decoder.width, growth)
    for name in PREFIXES:
        if size_of(after, name) > size_of(model, name):
            found, after = deepen(found, model, after, name, growth)
    return found, after


def duplicate(
    weights: dict[str, Tensor], units: Units, before: int, count: int, growth: Growth, share: bool = True
) -> None:
    """`count` units from `before`: first those that were, then copies of them in turn."""
    index = torch.arange(count) % before
    factors = 1 / torch.bincount(index)[index].double()
    experts = len(weights[units.made[0].key]) if units.of_experts else 1
    for axis in units.axes:
        tensor = (
            taken(axis, weights[axis.key], index.expand(experts, -1), True)
            if units.of_experts
            else axis.take(weights[axis.key], index)
        )
        whole = Axis(axis.key, axis.axis + units.of_experts, axis.outer, axis.inner)
        if axis in units.read and share:
            tensor = whole.scaled(tensor, factors)
        elif axis in units.made:
            tensor = growth.shaken(axis.key, tensor, whole, before)
        weights[axis.key] = tensor


def widen(weights: dict[str, Tensor], more: int, growth: Growth) -> None:
    """Adds features to the decoder's width: nothing writes them, and what reads them has first weights, so that both learn."""
    parts = width_of(weights)
    for axis in (*parts.written, *parts.read, *parts.norms):
        tensor = weights[axis.key]
        shape = list(tensor.shape)
        shape[axis.axis] = more
        if axis in parts.norms:
            there = tensor.shape[0]
            tensor = (tensor.double() * (there / (there + more)) ** 0.5).to(tensor.dtype)
            new = tensor.mean().expand(shape)
        elif axis in parts.read:
            spread = deviation(axis.key, (*shape[:-1], tensor.shape[-1] + more)) or 0.0
            new = growth.normal(axis.key, tuple(shape), spread).to(tensor.dtype)
        else:
            new = tensor.new_zeros(shape)
        weights[axis.key] = torch.cat([tensor, new], dim=axis.axis)


def deepen(
    weights: Weights, before: ModelConfig, after: ModelConfig, name: str, growth: Growth
) -> tuple[dict[str, Tensor], ModelConfig]:
    """More layers of the kind that comes last: of the decoder those with experts, where there are any."""
    first = before.decoder.dense_layers % before.decoder.layers if name == "layers" else 0
    there, count = size_of(before, name), size_of(after, name)
    old, missing = list(range(first, there)), count - there
    if growth.new_layers == "stack":
        order = [*range(first), *(old[place % len(old)] for place in range(count - first))]
        fresh: set[int] = set()
    else:
        # Spread evenly: after each of the old ones as many new ones as after the others, the rest after the last ones.
        each = [missing * (place + 1) // len(old) - missing * place // len(old) for place in range(len(old))]
        order = [
            *range(first),
            *(layer for layer, more in zip(old, each, strict=True) for _ in range(1 + more)),
        ]
        fresh = {new for new, layer in enumerate(order) if new and order[new - 1] == layer}
    assert len(order) == count and Counter(order).keys() == set(range(there))

    def change(new: int, part: str, tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor) if new in fresh and f".{part}".endswith(ADDED) else tensor

    return renumbered(weights, PREFIXES[name], order, change), with_layers(after, before, name, order)
