"""The layout of a run from its configuration, as the engine knows it and in words. Loads no torch."""

from collections.abc import Mapping

from parallel.topology import Topology
from train.config import ParallelConfig
from train.model.placement import embedding_stage

NAMES = ("tensor", "pipeline", "expert", "data")


def topology_of(sizes: ParallelConfig, world: int) -> Topology:
    """The grid of `world` processes. Raises UnsupportedLayout when the sizes do not divide it."""
    stage = embedding_stage(sizes)
    return Topology.of_world(world, sizes.tensor, sizes.pipeline, sizes.expert, sizes.virtual, stage)


def in_words(topology: Mapping[str, int]) -> str:
    """`tensor 2 x pipeline 2`, from the fields of a Topology: dataclasses.asdict, or a checkpoint's facts."""
    split = [f"{name} {topology[name]}" for name in NAMES if topology.get(name, 1) > 1]
    return " x ".join(split) or "one process"
