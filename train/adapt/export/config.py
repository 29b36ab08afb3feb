"""The settings of `python -m train.adapt.export`, and what is wrong with impossible ones. Loads nothing heavy."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from conf import rules
from conf.errors import ConfigError
from train.config import Config
from train.remake.source import source_run
from train.targets import chosen

LIBRARIES = ("released", "transformers")


@dataclass
class ExportConfig:
    """What is read, and what is written."""

    checkpoint: str = MISSING  # a run of stage=dora, or of tune=lora
    to: str = MISSING  # the folder to write, which must not exist yet
    merge: bool = False  # a run with the factors worked into its weights, in the place of an adapter
    library: str = (
        "released"  # whose layers the adapter names: "released" (DeepSeek's own code) | "transformers"
    )
    base_name: str | None = None  # in adapter_config.json: where peft finds the base; null for nowhere


def check(config: ExportConfig) -> None:
    """Refuses impossible values, a run without factors, and a target that is in use."""
    faults = [
        *rules.one_of("library", config.library, LIBRARIES),
        *rules.unused_folder("to", Path(config.to)),
    ]
    if not faults:
        faults += _source(config)
    if faults:
        raise ConfigError("\n  ".join(faults))


def _source(config: ExportConfig) -> Iterator[str]:
    try:
        run = source_run("checkpoint", Path(config.checkpoint))
    except ConfigError as error:
        yield str(error)
        return
    if not run.tune.has_factors:
        yield (
            f"checkpoint={config.checkpoint}: that run's tune={run.tune.kind} added no factors. Give a run of stage=dora or tune=lora; whole models are "
            "written by python -m train.convert."
        )
        return
    if not config.merge:
        yield from _adapter(config, run)


def _adapter(config: ExportConfig, run: Config) -> Iterator[str]:
    """What peft has no words for."""
    remedy = "Choose merge=true, which works it into the weights"
    if run.prune.kind != "none":
        yield f"checkpoint={config.checkpoint}: an adapter does not say which weights prune={run.prune.kind} holds at zero. {remedy}."
    if run.tune.train:
        yield f"checkpoint={config.checkpoint}: an adapter has no place for what tune.train={run.tune.train} trained beside. {remedy}."
    if config.library == "transformers":
        experts = [
            target.name
            for target in chosen(run.model, run.tune.targets, "tune.targets")
            if target.kind == "experts"
        ]
        if experts:
            yield (
                f"library=transformers: there, all experts of a layer are one parameter, and peft has no DoRA for those ({experts[0]}). "
                f"{remedy}, or library=released, where each expert has layers of its own."
            )
