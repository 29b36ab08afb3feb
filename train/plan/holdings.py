"""What each rank of a layout holds: the parameters of the real modules, built on the meta device."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from parallel.options import KEPT_WHOLE
from parallel.topology import Topology
from train.config import Config
from train.model.names import whole_names
from train.model.optical import build
from train.model.placement import of_rank
from train.plan.world import rank_of


@dataclass(frozen=True)
class Holding:
    """Parameters, in numbers. trained_experts: those that fewer ranks hold than the others, reduced over a group of their own.
    weight_bytes: of all. largest: of one trained parameter. matrices: tensors that ZeRO-3 fetches one by one."""

    parameters: int = 0
    trained: int = 0
    trained_experts: int = 0
    weight_bytes: int = 0
    largest: int = 0
    matrices: int = 0

    def __add__(self, other: "Holding") -> "Holding":
        return Holding(
            self.parameters + other.parameters,
            self.trained + other.trained,
            self.trained_experts + other.trained_experts,
            self.weight_bytes + other.weight_bytes,
            max(self.largest, other.largest),
            self.matrices + other.matrices,
        )


def holdings(config: Config, topology: Topology) -> list[Holding]:
    """One for each pipeline rank; the ranks of one stage hold equally much."""
    found = []
    for rank in range(topology.pipeline):
        with rank_of(topology, rank):
            module = build(config.model, 0, config.parallel, precision=config.engine.precision, device="meta")
            freeze(module, config)
            found.append(holding_of(module.parameters()))
    return found


def holding_of(parameters: Iterable[torch.nn.Parameter]) -> Holding:
    """The sums over `parameters`."""
    every = list(parameters)
    trained = [parameter for parameter in every if parameter.requires_grad]
    experts = [parameter for parameter in trained if not getattr(parameter, "allreduce", True)]
    return Holding(
        _count(every),
        _count(trained),
        _count(experts),
        sum(parameter.nbytes for parameter in every),
        max((parameter.numel() for parameter in trained), default=0),
        sum(parameter.numel() > KEPT_WHOLE for parameter in every),
    )


def freeze(module: torch.nn.Module, config: Config) -> None:
    """Freezes what the stage freezes, and the glyph heads that its objective does not ask."""
    objective = config.stage.objective
    idle = [("glyph_heads.patch", objective.patch_glyphs), ("glyph_heads.token", objective.token_glyphs)]
    frozen = [*config.stage.frozen, *(name for name, weight in idle if weight == 0)]
    for name, parameter in whole_names(module).items():
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in frozen):
            parameter.requires_grad_(False)


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
