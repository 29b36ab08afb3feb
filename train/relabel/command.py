"""Shard sets with a teacher's texts from the settings of the command. Nothing heavy is imported before these are sound."""

from pathlib import Path
from typing import TYPE_CHECKING

from train.find_run import places_read
from train.launch.peers import ending_with_lost_peers
from train.relabel.config import RelabelConfig

if TYPE_CHECKING:
    from data_pipeline.manifest import Manifest
    from train.config import ParallelConfig


def main(config: RelabelConfig) -> int:
    """Writes the shard sets in process groups of its own; returns the exit code."""
    from parallel.topology import Topology, environment, start, stop
    from train.generate.command import sizes_for

    rank, world, _ = environment()
    sizes = sizes_for([config.teacher], config.tensor)
    topology = Topology.of_world(world, tensor=sizes.tensor, expert=sizes.expert)
    try:
        with ending_with_lost_peers("python -m train.relabel", rank, config.timeout):
            start(topology, 0, timeout_seconds=config.timeout)
            write(config, sizes)
            return 0
    finally:
        stop()


def write(config: RelabelConfig, sizes: "ParallelConfig") -> "list[Manifest]":
    """Loads the teacher and writes what is missing. Groups must exist; all processes call it."""
    from data_pipeline.derived import DerivedSet, folders_of
    from train.distill.rewriting import rewrite
    from train.generate.team import Team
    from train.relabel.reading import PageTeacher

    teacher = PageTeacher.of(config, sizes)
    folders = folders_of(places_read(config.data, config.teacher), Path(config.out))
    sets = [DerivedSet(place, folder, teacher.facts()) for place, folder in folders.items()]
    return rewrite(sets, Team.of_world(config.tensor), teacher, config.overwrite)
