"""The settings of `python -m train.relabel`, and what is wrong with impossible ones. Loads no torch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from conf import rules
from conf.errors import ConfigError
from data_pipeline.errors import DataError
from train.find_run import locate, places_read, read_config


@dataclass
class RelabelConfig:
    """Which teacher reads which pages."""

    teacher: str = MISSING  # a run folder (its newest checkpoint), one checkpoint folder, or a recipe's folder
    out: str = MISSING  # folder that gets a shard set for each one that is read
    data: list[str] = field(default_factory=list)  # shard sets; [] = those that the teacher was trained on
    mode: str | None = None  # how the teacher sees a page; null = the first one of its training
    max_new_tokens: int = 8192  # of one page; a text that has no end by then is left out
    batch_size: int = 16  # pages read at once
    tensor: int = 1  # processes that share each matrix of the teacher
    overwrite: bool = False  # replace what `out` holds of other data, or was made with other settings
    timeout: float = 600.0  # seconds that a process waits for another, which may have hung or died


def check(config: RelabelConfig) -> None:
    """Refuses impossible values and missing files before anything is loaded."""
    from data_pipeline.manifest import Manifest

    for fault in _faults(config):
        raise ConfigError(fault)
    run = read_config(locate(Path(config.teacher), "teacher").folder / "config.yaml")
    if run.model.encoder.kind != "optical":
        raise ConfigError(
            f"teacher={config.teacher}: it compresses texts (model.encoder.kind={run.model.encoder.kind}) and reads no pages; "
            "choose a run with pages"
        )
    for place in places_read(config.data, config.teacher):
        Manifest.load(place)


def _faults(config: RelabelConfig) -> Iterator[str]:
    for name, least in (("max_new_tokens", 1), ("batch_size", 1), ("tensor", 1), ("timeout", 1)):
        yield from rules.at_least(name, getattr(config, name), least)
    if config.mode is not None:
        from data_pipeline.resolution import mode_of

        try:
            mode_of(config.mode)
        except DataError as error:
            yield f"mode={config.mode}: {error}."
