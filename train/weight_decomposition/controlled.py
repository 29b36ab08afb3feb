"""A task on which full fine-tuning, LoRA and DoRA move weights apart by nature: the mechanism behind figure 2 of the DoRA paper.

Layers are taught weights that differ from their own in two ways, the more of one the less of the other: layer by layer the rows
change less in magnitude, each by a random sign, and more in direction, by a change of the factors' rank that keeps magnitudes.
Full fine-tuning and DoRA can follow, and the layers that turn most are stretched least: a negative correlation. LoRA cannot
stretch a row without turning it, as magnitudes of random signs are no change of low rank: what it reaches of both grows
together, a positive one.

That takes a rank far below the width, a change of direction of no higher rank, and magnitudes of random signs. It shows what LoRA
cannot do; it is no evidence that every fine-tuning shows these signs.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import Linear
from train.transform.low_rank import Factors, LowRank
from train.weight_decomposition.measure import change_of

RATES = {"full": 3e-3, "lora": 8e-3, "dora": 8e-3}  # what is compared, with its learning rate
SIGNS = {"full": -1, "lora": 1, "dora": -1}  # of the correlations, as in the paper's figure
LAYERS, WIDTH, RANK, SCALE = 8, 128, 2, 2.0
STRETCHED, TURNED = (
    0.4,
    0.6,
)  # largest change of magnitude, in the first layer; of direction, in the last: parts of a row's norm
STEPS, LOOKS = 200, 4


def fitted(kind: str, seed: int) -> list[dict[str, Any]]:
    """What one kind of tuning does to the layers of one seed: the rows of all looks, as a run writes them, each with the mean
    squared error of its layer's weight.
    """
    starts, goals = zip(*_weights(seed))
    layers = [_layer(start, kind, f"layer {number}", seed) for number, start in enumerate(starts)]
    trained = [parameter for layer in layers for parameter in layer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATES[kind], weight_decay=0.0)
    links = [
        link for layer in layers if (chain := layer.chain()) is not None for link in chain.links().values()
    ]
    every_direction, rows = torch.eye(WIDTH), []
    for step in range(1, STEPS + 1):
        errors = [(layer(every_direction) - goal.t()).square().sum() for layer, goal in zip(layers, goals)]
        optimizer.zero_grad()
        torch.stack(errors).sum().backward()
        optimizer.step()
        for link in links:
            link.weights_changed()
        if step % (STEPS // LOOKS) == 0:
            rows += [
                {
                    "step": step,
                    "layer": f"seed {seed}, layer {number}",
                    "error": error.item() / WIDTH**2,
                    **_change(layer, start),
                }
                for number, (layer, start, error) in enumerate(zip(layers, starts, errors))
            ]
    return rows


def _weights(seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(start, goal) of each layer, [WIDTH, WIDTH]."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    for number in range(LAYERS):
        share = (number + 0.5) / LAYERS
        start = normal(WIDTH, WIDTH) / WIDTH**0.5
        turned = start + TURNED * share * normal(WIDTH, RANK) @ normal(RANK, WIDTH) / (RANK * WIDTH) ** 0.5
        turned = turned / turned.norm(dim=1, keepdim=True) * start.norm(dim=1, keepdim=True)
        yield start, turned * (1 + STRETCHED * (1 - share) * torch.sign(normal(WIDTH, 1)))


def _layer(start: torch.Tensor, kind: str, name: str, seed: int) -> Linear:
    """One of our layers with the weight `start` and what `kind` adds to it."""
    layer = Linear(
        TransformerConfig(num_layers=1, hidden_size=WIDTH, num_attention_heads=1), WIDTH, WIDTH, bias=False
    )
    layer.weight.data.copy_(start)
    if kind != "full":
        layer.weight.requires_grad_(False)
        (site,) = layer.sites()
        site.attach("low_rank", LowRank(site, Factors(RANK, SCALE, kind == "dora"), name, seed))
    return layer


def _change(layer: Linear, start: torch.Tensor) -> dict[str, Any]:
    (site,) = layer.sites()
    return asdict(change_of(site, start))
