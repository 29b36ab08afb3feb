"""The settings of `python -m train.generate`."""

import glob
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from conf.errors import ConfigError


@dataclass
class GenerateConfig:
    """Which pages are read, by which model."""

    checkpoint: str = MISSING  # a run folder (its newest checkpoint), or one checkpoint folder
    image: str = MISSING  # a picture of a page, or a quoted pattern for several
    prompt: str | None = None  # what the model is asked; null = what the run's own held-out pages ask
    max_new_tokens: int = 1024  # at most; what the model was made for may be less


def check(config: GenerateConfig) -> None:
    """Refuses impossible values and missing files before anything is loaded."""
    if config.max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens={config.max_new_tokens}: must be 1 or more")
    if not images(config.image):
        raise ConfigError(f"image={config.image}: no such file")


def images(pattern: str) -> list[Path]:
    """The files that `pattern` names: itself where it is a file, else all that match."""
    return [Path(pattern)] if Path(pattern).is_file() else [Path(name) for name in sorted(glob.glob(pattern))]
