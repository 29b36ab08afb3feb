"""The settings of `python -m train.evaluate`, and what is wrong with impossible ones. Loads nothing heavy."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from omegaconf import MISSING

from conf.errors import ConfigError
from train.generate.config import no_repeat_of
from train.generate.options import CACHES

FORMATS = ("shards", "fox", "omnidocbench", "folder")


@dataclass
class EvaluateConfig:
    """What is evaluated, on what, and where the result goes."""

    checkpoint: str = (
        MISSING  # a run folder (its newest checkpoint), one checkpoint folder, or a recipe's folder
    )
    format: str = "shards"  # of the data: "shards" (ours) | "fox" | "omnidocbench" | "folder" (pictures with .txt or .md)
    data: str | None = None  # folder of the pages; null = the run's own held-out pages
    out: str | None = (
        None  # folder for the results; null = evaluation/ in the recipe's folder, or in the run's
    )
    modes: list[str] = field(
        default_factory=list
    )  # in which the same pages are read, one after the other; [] = what the run was trained with
    languages: list[str] = field(default_factory=list)  # only pages in these, such as [en]; [] = all
    pages: int | None = None  # of each source, at most; null = 64 of a shard set, all of another format
    bins: list[int] = field(
        default_factory=list
    )  # edges of the bins of text tokens; [] = by the data's quantiles
    compare: list[str] = field(
        default_factory=list
    )  # metrics.json of other runs, whose curves are drawn beside this one
    fox: bool = False  # the measures of the Fox benchmark as well; format=fox always has them
    prompt: str | None = (
        None  # what the model is asked; null = what the pages ask, or the run's own held-out ones
    )
    max_new_tokens: int | None = (
        None  # of a page, at most; null = a quarter above the longest text of the source
    )
    no_repeat: str = "none"  # n-grams that may not repeat, as in train.generate: a preset, or SIZE/WINDOW
    no_repeat_allowed: list[str] = field(default_factory=lambda: ["<td>", "</td>"])  # may repeat: empty cells
    cache: str = "auto"  # keys and values: "auto" (as the weights) | "bf16" | "int8"
    batch_size: int = 32  # pages read at once
    seed: int = 0  # of the bootstrap intervals
    timeout: float = 600.0  # seconds that a process waits for another, which may have hung or died


def check(config: EvaluateConfig) -> None:
    """Refuses impossible values."""
    for name, least in (("pages", 2), ("batch_size", 1), ("timeout", 1), ("max_new_tokens", 1)):
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise ConfigError(f"{name}={value}: must be {least} or more: {name}={least}")
    for name, choices in (("format", FORMATS), ("cache", CACHES)):
        if getattr(config, name) not in choices:
            raise ConfigError(f"{name}={getattr(config, name)}: choose {', '.join(choices)}")
    if config.format != "shards" and config.data is None:
        raise ConfigError(f"format={config.format}: say where the pages are, data=FOLDER")
    if config.data is not None and not Path(config.data).is_dir():
        raise ConfigError(f"data={config.data}: no such folder")
    if config.out is not None and Path(config.out).exists() and not Path(config.out).is_dir():
        raise ConfigError(f"out={config.out}: is a file; choose a folder")
    no_repeat_of(config.no_repeat)
    _check_bins(config.bins)
    _check_modes(config.modes)
    for path in config.compare:
        if not Path(path).exists():
            raise ConfigError(f"compare={path}: no such file; give the metrics.json of another evaluation")


def _check_bins(edges: list[int]) -> None:
    ascending = all(low < high for low, high in pairwise(edges))
    if len(edges) == 1 or not ascending or (edges and edges[0] < 0):
        raise ConfigError(
            f"bins={edges}: give ascending numbers of text tokens, two or more: bins=[600,700,800]"
        )


def _check_modes(modes: list[str]) -> None:
    from data_pipeline.errors import DataError
    from data_pipeline.resolution import mode_of

    for mode in modes:
        try:
            mode_of(mode)
        except DataError as error:
            raise ConfigError(f"modes=[{mode}]: {error}") from None
    if len(set(modes)) < len(modes):
        raise ConfigError(f"modes={modes}: a mode is named twice")
