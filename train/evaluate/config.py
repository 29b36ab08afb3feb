"""The settings of `python -m train.evaluate`."""

from dataclasses import dataclass

from omegaconf import MISSING

from conf.errors import ConfigError


@dataclass
class EvaluateConfig:
    """What is evaluated, on what, and where the result goes."""

    checkpoint: str = MISSING  # a run folder (its newest checkpoint), or one checkpoint folder
    data: str | None = (
        None  # another folder of shard sets, laid out as the run's data.root; null = the run's own
    )
    out: str | None = (
        None  # folder for evaluation.json; null = the recipe's folder, or the run's where there is no recipe
    )
    pages: int = 64  # held-out pages of each source
    batch_size: int = 32  # pages read at once
    seed: int = 0  # of the bootstrap intervals
    timeout: float = 600.0  # seconds that a process waits for another, which may have hung or died


def check(config: EvaluateConfig) -> None:
    """Refuses impossible values."""
    for name, least in (("pages", 2), ("batch_size", 1), ("timeout", 1)):
        if not getattr(config, name) >= least:
            raise ConfigError(f"{name}={getattr(config, name)}: must be {least} or more: {name}={least}")
