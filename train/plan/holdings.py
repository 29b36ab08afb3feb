"""What each rank of a layout holds: the parameters of the real modules, built on the meta device."""

from dataclasses import dataclass

import torch

from parallel.topology import Topology
from train.config import Config
from train.model.optical import build
from train.model.placement import of_rank
from train.plan.pieces import freeze
from train.plan.world import rank_of


@dataclass(frozen=True)
class Holding:
    """Parameters of one rank, in numbers. trained_experts: those that fewer ranks hold than the others, reduced over a
    group of their own. weight_bytes: of all. largest: of one trained parameter."""

    holds: str
    parameters: int
    trained: int
    trained_experts: int
    weight_bytes: int
    largest: int


def holdings(config: Config, topology: Topology) -> list[Holding]:
    """One for each pipeline rank; the ranks of one stage hold equally much."""
    return [_holding(config, topology, rank) for rank in range(topology.pipeline)]


def _holding(config: Config, topology: Topology, rank: int) -> Holding:
    with rank_of(topology, rank):
        module = build(config.model, 0, config.parallel, precision=config.engine.precision, device="meta")
        freeze(module, config)
        every = list(module.parameters())
    trained = [parameter for parameter in every if parameter.requires_grad]
    own = config.engine.zero < 3  # stage 3 takes them for ordinary parameters
    experts = [parameter for parameter in trained if own and not getattr(parameter, "allreduce", True)]
    return Holding(
        describe(config, rank),
        _count(every),
        _count(trained),
        _count(experts),
        sum(parameter.nbytes for parameter in every),
        max((parameter.numel() for parameter in trained), default=0),
    )


def describe(config: Config, rank: int) -> str:
    """The parts of the model on a pipeline rank, in words."""
    return " | ".join(
        ", ".join(
            [
                *["window branch, compressor"] * part.window,
                *["global branch, embedding"] * part.embedding,
                *[_layers(part.first_layer, part.layers)] * (part.layers > 0),
                *["head"] * part.head,
            ]
        )
        for part in of_rank(config.parallel, config.model.decoder.layers, rank)
    )


def _layers(first: int, count: int) -> str:
    return f"layer {first}" if count == 1 else f"layers {first}-{first + count - 1}"


def _count(parameters: list[torch.nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
