"""How much each unit matters, and which ones are kept.

From the weights alone (`by_magnitude`), or from what pages do in the model (`train.surgery.calibration`), which sees what the
weights cannot: how often an expert is asked, how far a layer turns what it reads.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from train.config import ModelConfig
from train.surgery.sizes import ENCODER
from train.surgery.units import Units, Weights, units_of, width_of

KINDS = (
    "heads",
    "ffn",
    "shared",
    "expert_ffn",
    "experts",
    "window_heads",
    "window_mlp",
    "global_heads",
    "global_mlp",
)
STACKS = {"layers": ("heads", "ffn", "shared", "experts"), "window_depth": ("window_heads", "window_mlp"),
          "global_depth": ("global_heads", "global_mlp")}  # fmt: skip


@dataclass
class Importance:
    """Scores, the larger the more a unit matters; zero for one of which nothing is read.

    units: kind → layer → [units], or [experts, units] for "expert_ffn". layers: "layers", "window_depth" or "global_depth" →
    [layers]. width: [features of the decoder's width]. power: key of a norm → mean square of each feature that it reads;
    under "" what stands for all that are not there.
    """

    units: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    layers: dict[str, Tensor] = field(default_factory=dict)
    width: Tensor = field(default_factory=lambda: torch.empty(0))
    power: dict[str, Tensor] = field(default_factory=dict)


def by_magnitude(model: ModelConfig, weights: Weights) -> Importance:
    """The norm of what makes a unit times the norm of what reads it: no more than this can come of an input of length one.

    Of a layer the sum over its units; of a feature of the width, the mean square of what is written to it.
    """
    kinds = [kind for kind in KINDS if model.encoder.kind == "optical" or kind not in ENCODER]
    found = Importance(
        {
            kind: {layer: _strength(units, weights) for layer, units in units_of(model, kind).items()}
            for kind in kinds
        }
    )
    for name, parts in STACKS.items():
        if parts[0] in kinds:
            totals = [
                [found.units[part][layer].sum() for part in parts if layer in found.units[part]]
                for layer in found.units[parts[0]]
            ]
            found.layers[name] = torch.stack([torch.stack(own).sum() for own in totals])
    if model.encoder.kind == "optical":
        found.width = sum(
            axis.by_unit(weights[axis.key].double()).square().sum(1) for axis in width_of(weights).written
        )  # type: ignore[assignment]
        found.power[""] = found.width
    return found


def _strength(units: Units, weights: Weights) -> Tensor:
    if units.of_experts:
        count = len(weights[units.made[0].key])
        rows = [_strength(Units(units.made, units.read), {axis.key: weights[axis.key][expert] for axis in units.axes})
                for expert in range(count)]  # fmt: skip
        return torch.stack(rows)
    made, read = (
        sum(axis.by_unit(weights[axis.key].double()).square().sum(1) for axis in axes)
        for axes in (units.made, units.read)
    )
    return torch.as_tensor(made * read).sqrt()


def best(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest of [units], or of each row of [experts, units], in their order."""
    return scores.topk(count, dim=-1).indices.sort(-1).values
