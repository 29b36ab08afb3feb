"""The settings of `python -m train.quantize`, and what is wrong with impossible ones. Loads nothing heavy."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from omegaconf import MISSING

from conf import rules
from conf.errors import ConfigError
from train.config import Config, ParallelConfig, QuantizeConfig
from train.find_run import training_sets
from train.remake.source import source_run
from train.targets import chosen
from train.validate.quantize import quantize_faults

DTYPES = ("fp32", "bf16")
METHODS = ("nearest", "awq", "gptq")
FORMS = ("run", "released")


@dataclass
class RoundConfig:
    """What is read, how it is rounded, what is written."""

    checkpoint: str = MISSING  # a run folder, or one of its checkpoints
    to: str = MISSING  # the folder to write, which must not exist yet
    form: str = (
        "run"  # "run" (a run folder of rounded values) | "released" (packed integers, DeepSeek's names)
    )
    dtype: str = "fp32"  # of what is not rounded, in a released folder: "fp32" | "bf16"
    method: str = "nearest"  # "nearest" | "awq" (arXiv 2306.00978, torchao's) | "gptq" (arXiv 2210.17323)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    data: str | None = None  # shard set with pages for awq and gptq; null: those the run was trained on
    pages: int = 64  # of it
    batch_size: int = 8  # pages looked at at once
    rows: int = 2048  # positions that are kept of what each matrix multiplied


def settings_of(config: RoundConfig, run: Config) -> QuantizeConfig:
    """How weights are rounded: as was asked, or as the run was trained."""
    return config.quantize if config.quantize.bits else run.quantize


def as_trained(config: RoundConfig, run: Config) -> bool:
    """Whether the integers are those that the run was trained for."""
    return run.quantize.bits > 0 and settings_of(config, run) == run.quantize


def check(config: RoundConfig) -> None:
    """Refuses impossible values, a missing source, and a target that is in use."""
    faults = [
        *rules.one_of("form", config.form, FORMS),
        *rules.one_of("dtype", config.dtype, DTYPES),
        *rules.one_of("method", config.method, METHODS),
        *rules.positive("", config, "pages batch_size rows"),
        *rules.unused_folder("to", Path(config.to)),
    ]
    if not faults:
        faults += _source(config)
    if faults:
        raise ConfigError("\n  ".join(faults))


def _source(config: RoundConfig) -> Iterator[str]:
    try:
        run = source_run("checkpoint", Path(config.checkpoint))
    except ConfigError as error:
        yield str(error)
        return
    settings = settings_of(config, run)
    if not settings.bits:
        yield f"checkpoint={config.checkpoint} was trained without rounding: say which, such as quantize=int4."
        return
    if settings.scales == "learned" and not as_trained(config, run):
        yield "quantize.scales=learned: scales are learned in training (stage=qat). Choose quantize.scales=dynamic."
    faults = list(quantize_faults(replace(run, quantize=settings, parallel=ParallelConfig())))
    yield from faults
    if config.method != "nearest":
        yield from _with_pages(config, run, settings)
    if config.form == "released" and not faults:
        yield from _released(config, run, settings)


def _with_pages(config: RoundConfig, run: Config, settings: QuantizeConfig) -> Iterator[str]:
    if as_trained(config, run):
        yield f"method={config.method}: a run that was trained for its integers has them already. Choose method=nearest."
    if settings.numbers == "fp8":
        yield f"method={config.method}: is for integers. Choose method=nearest for quantize=fp8."
    if config.data is not None and not (Path(config.data) / "manifest.json").is_file():
        yield f"data={config.data}: no shards there (no manifest.json). Give the folder of a shard set."
    if config.data is None and not training_sets(run):
        yield (
            f"checkpoint={config.checkpoint}: the shards it was trained on are not here. Give data=FOLDER of a shard set, or "
            "method=nearest, which needs no pages."
        )


def _released(config: RoundConfig, run: Config, settings: QuantizeConfig) -> Iterator[str]:
    if importlib.util.find_spec("compressed_tensors") is None:
        yield "form=released: packs with compressed-tensors, which is not installed: pip install 'microfiche[quantize]', or form=run."
    if config.method == "awq":
        yield "form=released: AWQ's weights lie on a grid for each input, which the format has no place for. Choose method=gptq, or form=run."
    for target in chosen(run.model, settings.targets, "quantize.targets"):
        if target.kind not in ("linear", "experts"):
            yield f"form=released: the format packs matrices, and {target.name} is none. Choose form=run, or other quantize.targets."
            return
