"""Predictions from the settings of the command. Nothing heavy is imported before these are known to be sound."""

from pathlib import Path
from typing import TYPE_CHECKING

from train.cache_teacher.config import CacheConfig
from train.find_run import places_read
from train.launch.peers import ending_with_lost_peers

if TYPE_CHECKING:
    from data_pipeline.derived import DerivedSet
    from data_pipeline.manifest import Manifest
    from train.cache_teacher.predicting import Predictor
    from train.config import ParallelConfig


def main(config: CacheConfig) -> int:
    """Writes the predictions in process groups of its own; returns the exit code."""
    from parallel.topology import Topology, environment, start, stop
    from train.generate.command import sizes_for

    rank, world, _ = environment()
    sizes = sizes_for([config.teacher], config.tensor)
    try:
        with ending_with_lost_peers("python -m train.cache_teacher", rank, config.timeout):
            start(
                Topology.of_world(world, tensor=sizes.tensor, expert=sizes.expert),
                0,
                timeout_seconds=config.timeout,
            )
            write(config, sizes)
            return 0
    finally:
        stop()


def write(config: CacheConfig, sizes: "ParallelConfig") -> "list[Manifest]":
    """Loads the teacher and writes what is missing. Groups must exist; all processes call it."""
    from train.cache_teacher.predicting import Predictor
    from train.distill.rewriting import rewrite
    from train.generate.team import Team

    predictor = Predictor.of(config, sizes)
    return rewrite(derived_sets(config, predictor), Team.of_world(config.tensor), predictor, config.overwrite)


def derived_sets(config: CacheConfig, predictor: "Predictor") -> "list[DerivedSet]":
    """A set of predictions for each shard set."""
    from data_pipeline.derived import DerivedSet, folders_of
    from data_pipeline.manifest import Manifest

    return [
        DerivedSet(place, folder, predictor.facts(Manifest.load(place).digest()).to_config())
        for place, folder in folders_of(places_read(config.data, config.teacher), Path(config.out)).items()
    ]
