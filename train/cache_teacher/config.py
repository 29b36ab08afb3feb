"""The settings of `python -m train.cache_teacher`, and what is wrong with impossible ones. Loads no torch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from conf import rules
from conf.errors import ConfigError
from data_pipeline.errors import DataError
from train.find_run import locate, places_read


@dataclass
class CacheConfig:
    """Which teacher reads which data, and what of its predictions is kept."""

    teacher: str = (
        MISSING  # a run folder (its newest checkpoint), one checkpoint folder, or a recipe's folder
    )
    out: str = MISSING  # folder that gets a set of predictions for each shard set
    data: list[str] = field(default_factory=list)  # shard sets; [] = those that the teacher was trained on
    modes: list[str] = field(default_factory=list)  # how the teacher sees pages; [] = as it was trained
    top_k: int = 64  # predictions that are kept at each position, beside the sum of the rest
    temperature: float = 1.0  # of the predictions; a student must be trained at the same one
    batch_size: int = 16  # samples read at once
    tensor: int = 1  # processes that share each matrix of the teacher
    overwrite: bool = False  # replace what `out` holds of other data, or was made with other settings
    timeout: float = 600.0  # seconds that a process waits for another, which may have hung or died


def check(config: CacheConfig) -> None:
    """Refuses impossible values and missing files before anything is loaded."""
    for fault in _faults(config):
        raise ConfigError(fault)
    locate(Path(config.teacher), "teacher")
    for place in places_read(config.data, config.teacher):
        check_shards(place)


def check_shards(place: str) -> None:
    """Refuses a place without a finished shard set."""
    from data_pipeline.manifest import Manifest

    Manifest.load(place)


def _faults(config: CacheConfig) -> Iterator[str]:
    for name, least in (("top_k", 1), ("batch_size", 1), ("tensor", 1), ("timeout", 1)):
        yield from rules.at_least(name, getattr(config, name), least)
    if not config.temperature > 0:
        yield f"temperature={config.temperature}: must be above 0."
    from data_pipeline.resolution import mode_of

    for mode in config.modes:
        try:
            mode_of(mode)
        except DataError as error:
            yield f"modes={config.modes}: {error}."
