"""Structured pruning: the units that matter least are cut out of the weights, and each layer keeps as many as the others.

As in Minitron (arXiv 2407.14679): everything is weighed once, in the model as it is, and then cut. Units that are exactly zero may
go without a trace. For features of the decoder's width this takes a stronger norm, as the mean of squares is over fewer of them;
it is as much stronger as what it reads has become weaker, by what the pages showed. Experts are the exception: the router's
softmax is over those that are left, whose weights rise by as much as the others had.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from train.config import ModelConfig
from train.surgery.importance import Importance, best
from train.surgery.sizes import pruned, size_of
from train.surgery.units import DECODER, GLOBAL, WINDOW, Axis, Units, Weights, layers_of, units_of, width_of

PREFIXES = {"layers": DECODER, "window_depth": WINDOW, "global_depth": GLOBAL}


def prune(
    weights: Weights, model: ModelConfig, sizes: object, importance: Importance
) -> tuple[dict[str, Tensor], ModelConfig]:
    """The weights and the model after `sizes` (SizesConfig) of `prune.`; the rest of `model` is as it was.

    Raises ConfigError for a size that is larger than it was.
    """
    after = pruned(model, sizes)  # type: ignore[arg-type]
    found = dict(weights)
    there = counts(model)
    for kind, count in counts(after).items():
        if count < there[kind]:
            for layer, units in units_of(model, kind).items():
                keep_units(found, units, best(importance.units[kind][layer], count))
    if not after.decoder.shared_experts:
        found = {key: tensor for key, tensor in found.items() if ".shared_experts." not in key}
    if after.decoder.width < model.decoder.width:
        narrow(found, best(importance.width, after.decoder.width), importance)
    for name, prefix in PREFIXES.items():
        if size_of(after, name) < size_of(model, name):
            kept = best(importance.layers[name], size_of(after, name)).tolist()
            found = renumbered(found, prefix, kept)
            after = with_layers(after, model, name, kept)
    return found, after


def counts(model: ModelConfig) -> dict[str, int]:
    """Units of each kind in a layer. Experts come last: the indices of features are those of all of them."""
    decoder, encoder = model.decoder, model.encoder
    return {
        "heads": decoder.heads,
        "ffn": decoder.ffn,
        "shared": decoder.shared_experts * decoder.expert_ffn,
        "expert_ffn": decoder.expert_ffn,
        "experts": decoder.experts,
        "window_heads": encoder.window_heads,
        "window_mlp": encoder.window_mlp,
        "global_heads": encoder.global_heads,
        "global_mlp": encoder.global_mlp,
    }


def keep_units(weights: dict[str, Tensor], units: Units, index: Tensor) -> None:
    """Leaves the units of `index` [kept], or of each expert those of its row [experts, kept]."""
    for axis in units.axes:
        weights[axis.key] = taken(axis, weights[axis.key], index, units.of_experts)


def taken(axis: Axis, tensor: Tensor, index: Tensor, of_experts: bool) -> Tensor:
    """`Axis.take`; where experts have units of their own, for each expert."""
    if not of_experts:
        return axis.take(tensor, index)
    return torch.stack([axis.take(part, own) for part, own in zip(tensor, index, strict=True)])


def narrow(weights: dict[str, Tensor], index: Tensor, importance: Importance) -> None:
    """Leaves the features `index` of the decoder's width, and makes up in the norms for what they no longer read."""
    parts = width_of(weights)
    for axis in (*parts.written, *parts.read):
        weights[axis.key] = axis.take(weights[axis.key], index)
    for axis in parts.norms:
        norm, power = weights[axis.key], importance.power.get(axis.key, importance.power.get(""))
        assert power is not None
        left = (power[index].sum() / power.sum()).item() if power.any() else 1.0
        strength = (left * len(norm) / len(index)) ** 0.5
        weights[axis.key] = (axis.take(norm, index).double() * strength).to(norm.dtype)


def renumbered(
    weights: Weights,
    prefix: str,
    order: list[int],
    change: Callable[[int, str, Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """The layers below `prefix` in a new order: new layer i is old layer order[i]; some may be gone, some come twice.

    change: (new layer, name in the layer, tensor) → the tensor that it gets.
    """
    found = {key: tensor for key, tensor in weights.items() if not key.startswith(prefix)}
    for layer, name, key in layers_of(prefix, weights):
        for new in (place for place, old in enumerate(order) if old == layer):
            found[f"{prefix}{new}.{name}"] = change(new, name, weights[key]) if change else weights[key]
    return found


def with_layers(after: ModelConfig, before: ModelConfig, name: str, order: list[int]) -> ModelConfig:
    """`after`, whose layers are those of `before` in `order`: which are dense, which look at the whole page."""
    if name == "layers":
        dense = sum(layer < before.decoder.dense_layers for layer in order)
        return replace(after, decoder=replace(after.decoder, dense_layers=dense))
    if name == "window_depth":
        whole = [new for new, old in enumerate(order) if old in before.encoder.global_layers]
        return replace(after, encoder=replace(after.encoder, global_layers=whole))
    return after
