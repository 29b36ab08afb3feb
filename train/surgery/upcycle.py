"""Dense feed-forwards become experts that together compute what one did (arXiv 2212.05055; parts and scaling: 2410.07524).

A feed-forward is cut into P parts of its hidden features, and each part copied E / P times; a token that chooses k experts gets
k / P copies of each part, each weighed with the router's softmax over all E, near 1 / E at first. So what the experts give is
scaled by E P / k. The scale is shared out over `up` and the second matrix, in both of which the feed-forward is linear.

The router's rows begin small and random: so small that the weights are 1 / E up to 1e-5, which keeps the function as far, and yet
different enough that each token has its own choice. Copies with the parts of one feed-forward have one row between them: they
have equal weights, and are chosen together.
"""

import torch
from torch import Tensor

from train.config import ModelConfig
from train.surgery.config import UpcycleConfig
from train.surgery.grow import Growth
from train.surgery.sizes import upcycled
from train.surgery.units import DECODER, Axis, Weights, units_of

LOGITS = 1e-5  # standard deviation of the router's logits for inputs of mean square 1


def upcycle(
    weights: Weights, model: ModelConfig, settings: UpcycleConfig, growth: Growth
) -> tuple[dict[str, Tensor], ModelConfig]:
    """The weights and the model with experts in the place of the dense feed-forwards from `settings.dense_layers` on.

    Raises ConfigError for a model that has experts already, and for numbers that do not divide.
    """
    after = upcycled(model, settings)
    decoder, found = after.decoder, dict(weights)
    parts = decoder.ffn // decoder.expert_ffn
    strength = (decoder.experts * parts / decoder.experts_per_token) ** 0.5
    for layer in range(decoder.dense_layers, decoder.layers):
        prefix = f"{DECODER}{layer}.mlp."
        fc1, fc2 = (found.pop(axis.key) for axis in units_of(model, "ffn")[layer].axes)
        gate, up = fc1.chunk(2)
        first = torch.stack(
            [
                torch.cat(both)
                for both in zip(gate.chunk(parts), _times(up, strength).chunk(parts), strict=True)
            ]
        )
        second = torch.stack(_times(fc2, strength).chunk(parts, dim=1))
        copies = torch.arange(decoder.experts) % parts
        for name, matrices in (("fc1", first), ("fc2", second)):
            key = f"{prefix}experts.experts.linear_{name}.weight"
            found[key] = growth.shaken(key, matrices[copies], Axis(key, 0), parts)
        rows = growth.normal(
            f"{prefix}router.weight", (decoder.experts // parts, decoder.width), LOGITS / decoder.width**0.5
        )
        found[f"{prefix}router.weight"] = rows.to(fc1.dtype).repeat_interleave(parts, dim=0)
    return found, after


def _times(tensor: Tensor, factor: float) -> Tensor:
    return (tensor.double() * factor).to(tensor.dtype)
