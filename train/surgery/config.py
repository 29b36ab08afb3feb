"""The settings of `python -m train.surgery`, and what is wrong with impossible ones. Loads nothing heavy."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from conf import rules
from conf.errors import ConfigError
from train.config import Config
from train.find_run import training_sets
from train.remake.source import source_run
from train.surgery.sizes import planned
from train.validate.model import model_faults


@dataclass
class SizesConfig:
    """Sizes of the model afterwards; null leaves one as it is. Names are those of the model's configuration."""

    layers: int | None = None  # of the decoder
    width: int | None = None  # of the decoder
    heads: int | None = None  # of each decoder layer; their own width stays
    ffn: int | None = None  # hidden features of the dense layers
    experts: int | None = None  # of each layer that has some; growing: a multiple of what is there
    expert_ffn: int | None = None  # hidden features of an expert; those of shared experts follow
    shared_experts: int | None = None  # of `expert_ffn` features each
    experts_per_token: int | None = None  # null: as many times more as experts, when they grow
    window_depth: int | None = None  # blocks of the encoder's windowed branch
    window_heads: int | None = None  # of each block
    window_mlp: int | None = None  # hidden features of each block
    global_depth: int | None = None  # blocks of the encoder's global branch
    global_heads: int | None = None  # of each block
    global_mlp: int | None = None  # hidden features of each block


@dataclass
class UpcycleConfig:
    """Experts from dense feed-forwards (arXiv 2212.05055, 2410.07524)."""

    experts: int | None = None  # made of each dense feed-forward; null for none
    experts_per_token: int = 2  # that a token chooses
    expert_ffn: int | None = None  # features of one, a divisor of the dense layers'; null: as many as those
    dense_layers: int = 0  # first layers that stay dense


@dataclass
class FactorizeConfig:
    """Ranks of the two matrices that take the place of one; null leaves them whole."""

    attention: int | None = None  # of the decoder's queries, keys and values, and of what joins its heads
    ffn: int | None = None  # of the decoder's dense layers and shared experts


@dataclass
class _Settings:
    to: str = MISSING  # the run folder to write, which must not exist yet
    prune: SizesConfig = field(default_factory=SizesConfig)
    upcycle: UpcycleConfig = field(default_factory=UpcycleConfig)
    grow: SizesConfig = field(default_factory=SizesConfig)
    factorize: FactorizeConfig = field(default_factory=FactorizeConfig)
    new_layers: str = (
        "identity"  # grow.layers and depths: "identity" (the function stays) | "stack" (repeat what is there)
    )
    noise: float = (
        0.0  # on what is duplicated, as a share of its size, so that copies part; 0: the function stays exact
    )
    importance: str = "activations"  # of what is pruned, of inputs that are factored: "activations" (of pages) | "magnitude"
    data: str | None = (
        None  # shard set with pages for importance=activations; null: those the run was trained on
    )
    pages: int = 64  # of it
    batch_size: int = 8  # pages looked at at once
    seed: int = 0  # of what is drawn at random


# What @dataclass generates by itself would spell out `from`, a keyword of Python.
@dataclass(init=False, repr=False, eq=False)
class SurgeryConfig(_Settings):
    """What is read, what is done to it, and where it goes."""

    __annotations__ = {"from": str}  # a run folder, or one of its checkpoints
    locals()["from"] = MISSING

    def __init__(self, **settings: Any) -> None:
        given = settings.pop("from", MISSING)
        super().__init__(**settings)
        setattr(self, "from", given)

    @property
    def source(self) -> Path:
        """What `from` names."""
        return Path(getattr(self, "from"))

    @property
    def looks_at_pages(self) -> bool:
        """Whether pages go through the model, to see what matters in it."""
        return self.importance == "activations" and (asked(self.prune) or asked(self.factorize))


def asked(section: SizesConfig | FactorizeConfig) -> bool:
    """Whether any size in it is given."""
    return any(value is not None for value in vars(section).values())


def check(config: SurgeryConfig) -> None:
    """Refuses impossible values, a missing source, sizes that the model cannot be given, and a target that is in use."""
    faults = [*_values(config), *rules.unused_folder("to", Path(config.to))]
    if not faults:
        faults += _source(config)
    if faults:
        raise ConfigError("\n  ".join(faults))


def _values(config: SurgeryConfig) -> Iterator[str]:
    yield from rules.one_of("new_layers", config.new_layers, ["identity", "stack"])
    yield from rules.one_of("importance", config.importance, ["activations", "magnitude"])
    yield from rules.at_least("noise", config.noise, 0)
    yield from rules.at_least("pages", config.pages, 2)
    yield from rules.at_least("batch_size", config.batch_size, 1)
    if config.data is not None and not (Path(config.data) / "manifest.json").is_file():
        yield f"data={config.data}: no shards there (no manifest.json). Give the folder of a shard set, or importance=magnitude."


def _source(config: SurgeryConfig) -> Iterator[str]:
    try:
        run = source_run("from", config.source)
    except ConfigError as error:
        yield str(error)
        return
    try:
        after = planned(run.model, config)
    except ConfigError as error:
        yield str(error)
        return
    if after == run.model:
        yield "nothing to do: give a size, such as prune.layers=2, grow.ffn=512, upcycle.experts=8 or factorize.ffn=32."
    for fault in model_faults(Config(model=after)):
        yield f"the model would be impossible: {fault}"
    if config.looks_at_pages and config.data is None and not training_sets(run):
        yield (
            f"from={config.source}: the shards it was trained on are not here. Give data=FOLDER of a shard set, or "
            "importance=magnitude, which needs no pages."
        )
